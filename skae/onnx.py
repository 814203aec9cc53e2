"""Fitted transformers for other runtimes, as ONNX models."""

import importlib.metadata

from skae import _model_file
from skae._autoencoder import AutoencoderTransformer
from skae._onnx import Graph, add_mapped, check_exportable, missing_package

__all__ = ["to_onnx"]

_OUTPUTS = {"transform": "codes", "reconstruct": "X_hat"}


def to_onnx(estimator, path=None, what="transform"):
    """Return a fitted transformer as an ONNX model, which runs without Python, torch and skae.

    The model maps float32 rows in the data's own units, any number of them, with NaN where entries
    are missing. Pipelines are converted by ``skl2onnx.to_onnx``, which finds by itself how.

    Parameters
    ----------
    estimator : AutoencoderTransformer
        Fitted to columns of numbers.
    path : str or path-like, default=None
        A file to write the model to. It is complete, or not there.
    what : {'transform', 'reconstruct'}, default='transform'
        The method whose result is the model's output.

    Returns
    -------
    model : onnx.ModelProto
        Its input is ``X`` of shape (n_samples, n_features), its output ``codes`` of shape
        (n_samples, n_components), or ``X_hat`` of shape (n_samples, n_features).

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is no AutoencoderTransformer.
    ValueError
        If `what` is not one of the two, if columns are categories, or if torch cannot export a
        network of your own.
    ImportError
        If onnx is not installed, or onnxscript where there are networks of your own.

    Notes
    -----
    What a network of your own has beside linear layers and the activations of `skae.modules` is
    exported by ``torch.onnx.export``, and the model then needs opset 18; else it needs 13.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> from skae.onnx import to_onnx
    >>> X = np.random.RandomState(0).normal(size=(200, 5)).astype(np.float32)
    >>> autoencoder = AutoencoderTransformer(n_components=2, max_iter=5, random_state=0).fit(X)
    >>> model = to_onnx(autoencoder)
    >>> [output.name for output in model.graph.output]
    ['codes']
    """
    if not isinstance(estimator, AutoencoderTransformer):
        raise TypeError(
            f"estimator must be an AutoencoderTransformer, got a {type(estimator).__name__};"
            " skl2onnx.to_onnx converts pipelines."
        )
    if what not in _OUTPUTS:
        raise ValueError(f"what must be 'transform' or 'reconstruct', got {what!r}.")
    check_exportable(estimator)
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise missing_package(error) from error
    model = _model(estimator, what)
    if path is not None:
        _model_file.write(path, model.SerializeToString())
    return model


def _model(estimator, what):
    from onnx import TensorProto, helper

    graph, output, n_features = Graph(), _OUTPUTS[what], estimator.n_features_in_
    graph.add("Identity", add_mapped(graph, "X", estimator, what), output=output)
    n_outputs = estimator.n_components_ if what == "transform" else n_features
    described = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n_samples", n])
        for name, n in (("X", n_features), (output, n_outputs))
    ]
    opsets = [helper.make_opsetid("", graph.opset)]
    return helper.make_model(
        helper.make_graph(graph.nodes, what, described[:1], described[1:], graph.constants),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),  # which old runtimes know
        producer_name="skae",
        producer_version=importlib.metadata.version("skae"),
    )
