"""Autoencoders as ONNX graphs: what is known here is written out, and torch exports the rest.

Written out it takes milliseconds, and operators of 2020; torch's export takes a second.
"""

import copy
import math
import warnings

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skae.modules import (
    MLP,
    Gate,
    LinearSkip,
    Logistic,
    SoftClip,
    SoftThreshold,
    TiedLinear,
    Variational,
)


def missing_package(error):
    """Return what to raise where a package that exports need is not there."""
    return ImportError(
        f"Exports to ONNX need the package {error.name}, which is not installed; pip install"
        ' "skae[onnx]".'
    )


class Graph:
    """The nodes and constants of an ONNX graph, as they are added.

    Parameters
    ----------
    prefix : str, default=''
        What all names begin with, for a graph that becomes part of another.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    constants : list of onnx.TensorProto
    opset : int
        Version of the operators. Those that are used here are the same in later ones.
    examples : dict of nn.Module to Tensor
        What parts of networks get, for torch to export them.
    """

    def __init__(self, prefix=""):
        self.prefix = prefix
        self.nodes, self.constants, self.opset, self.examples = [], [], 13, {}
        self._names = {}

    def constant(self, values):
        """Return the name of an array. Equal ones, as tied weights are, are kept once."""
        from onnx.numpy_helper import from_array

        values = np.asarray(values, np.float32 if type(values) is float else None)
        key = values.dtype, values.shape, values.tobytes()
        if key not in self._names:
            self._names[key] = f"{self.prefix}constant_{len(self._names)}"
            self.constants.append(from_array(values, self._names[key]))
        return self._names[key]

    def add(self, kind, *inputs, output=None, **attributes):
        """Add a node, whose inputs are names or arrays, and return the name of its output."""
        from onnx.helper import make_node

        inputs = [some if isinstance(some, str) else self.constant(some) for some in inputs]
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        output = name if output is None else output
        self.nodes.append(make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def embed(self, model, x):
        """Add the graph of a model of one input, and return the name of its output."""
        from onnx.compose import add_prefix_graph

        part = add_prefix_graph(model.graph, f"{self.prefix}torch_{len(self.nodes)}/")
        self.add("Identity", x, output=part.input[0].name)
        for node in part.node:
            node.ClearField("metadata_props")  # paths of this machine, among others
        self.nodes.extend(part.node)
        self.constants.extend(part.initializer)
        self.opset = max(self.opset, *(some.version for some in model.opset_import))
        return part.output[0].name


# ------------------------------------------------------------------------------- rows and codes


def check_exportable(estimator):
    """Refuse a transformer that is not fitted, or that knows categories."""
    check_is_fitted(estimator)
    names = getattr(estimator, "feature_names_in_", range(estimator.n_features_in_))
    columns = [
        name for name, some in zip(names, estimator.categories_, strict=True) if some is not None
    ]
    if columns:
        raise ValueError(
            f"Exports to ONNX need columns of numbers, got categories in {columns}; have them"
            " encoded before the autoencoder, as by a OneHotEncoder."
        )


def add_mapped(graph, X, estimator, what="transform", dtype=np.float32):
    """Add what a transformer makes of rows.

    Networks compute in float32, whatever the dtype of the rows.

    Parameters
    ----------
    graph : Graph
    X : str
        Name of the rows.
    estimator : AutoencoderTransformer
        Fitted, to columns of numbers. It stays as it is.
    what : {'transform', 'reconstruct'}, default='transform'
    dtype : {np.float32, np.float64}, default=np.float32
        That of the rows.

    Returns
    -------
    str
        Name of float32 codes, or rows.
    """
    module = copy.deepcopy(estimator.net_.module_).to("cpu").eval().requires_grad_(False)
    two_rows = torch.zeros(2, estimator.n_features_in_, dtype=torch.float32)
    graph.examples = _inputs_of_parts(module, two_rows)
    units = _in_units(graph, X, estimator, dtype)
    code = add_network(graph, module.encoder, _filled(graph, module.input, X, units))
    if what == "transform":
        return graph.add("Mul", code, np.float32(estimator.code_scale_))
    outputs = add_network(graph, module.decoder, code)
    if isinstance(module.output, Logistic):
        return graph.add("Sigmoid", outputs)  # units would be made of it, and unmade
    return _from_units(graph, outputs, estimator)


def _in_units(graph, X, estimator, dtype):
    from onnx import TensorProto

    mean = estimator.mean_.astype(dtype)
    # Of columns far from zero, beside their deviation, what rounding takes from the mean is much.
    for some in (mean, (estimator.mean_ - mean).astype(dtype)):
        if some.any():
            X = graph.add("Sub", X, some)
    units = graph.add("Div", X, dtype(estimator.scale_))
    units = graph.add("Clip", units, dtype(-1e15), dtype(1e15))  # as transform does
    return units if dtype is np.float32 else graph.add("Cast", units, to=TensorProto.FLOAT)


def _from_units(graph, outputs, estimator):
    rows = graph.add("Mul", outputs, np.float32(estimator.scale_))
    return graph.add("Add", rows, estimator.mean_.astype(np.float32))


def _filled(graph, filled, X, units):
    """Add what :class:`skae.modules.Filled` does, for the rows that have gaps."""
    has_gaps = graph.add("IsNaN", graph.add("ReduceSum", X, np.array([1], np.int64), keepdims=0))
    rows = graph.add("Transpose", graph.add("NonZero", has_gaps))  # (n_rows_with_gaps, 1)
    missing = graph.add("IsNaN", graph.add("GatherND", X, rows))
    known = graph.add("GatherND", units, rows)
    to_code = (filled.components * filled.kept.unsqueeze(1)).T
    found = graph.add("Where", missing, 0.0, known)
    for _ in range(filled.N_STEPS):
        code = graph.add("MatMul", found, to_code)
        found = graph.add("Where", missing, graph.add("MatMul", code, filled.components), known)
    return graph.add("ScatterND", units, rows, found)


# ------------------------------------------------------------------------------------- networks


def add_network(graph, module, x):
    """Add a network in evaluation mode, and return the name of its output."""
    if _is_known(graph, module):
        return _WRITERS[type(module)](graph, module, x)
    return graph.embed(_exported([module], graph.examples[module]), x)


def _is_known(graph, module):
    """Return whether a module does to rows what its type says, and that is written here."""
    return (
        type(module) in _WRITERS
        and graph.examples[module].ndim == 2
        and getattr(module, "approximate", "none") == "none"  # of GELU
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


def _inputs_of_parts(module, x):
    """Return what each part of a network gets where the network gets x."""
    found = {}

    def keep(part, args):
        if args:  # parametrizations have none
            found.setdefault(part, args[0])

    hooks = [part.register_forward_pre_hook(keep) for part in module.modules()]
    module(x)
    for hook in hooks:
        hook.remove()
    return found


def _exported(layers, example):
    """Return the ONNX model that torch makes of some layers, for any number of rows."""
    # not a Dim with a name: where torch finds no other way, that becomes the example's number
    any_number = {0: torch.export.Dim.DYNAMIC}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of what it uses itself
            program = torch.onnx.export(
                nn.Sequential(*layers),
                (example,),
                dynamo=True,
                opset_version=18,
                dynamic_shapes=(any_number,),
                verbose=False,
            )
    except ImportError as error:
        raise missing_package(error) from error
    except Exception as error:  # torch has one for each stage
        names = ", ".join(type(layer).__name__ for layer in layers)
        raise ValueError(
            "A network of your own must be one that torch.onnx.export(..., dynamo=True) takes with"
            f" any number of rows, got {names}, at which it fails; the error before this one says"
            " where."
        ) from error
    return program.model_proto


def _sequential(graph, sequence, x):
    layers = list(sequence)
    unknown = [i for i, layer in enumerate(layers) if not _is_known(graph, layer)]
    first, end = (unknown[0], unknown[-1] + 1) if unknown else (0, 0)
    for layer in layers[:first]:
        x = add_network(graph, layer, x)
    if unknown:  # one export, known ones between them included
        # not what the first of them gets at first: an activation may serve in several places
        example = nn.Sequential(*layers[:first])(graph.examples[sequence])
        x = graph.embed(_exported(layers[first:end], example), x)
    for layer in layers[end:]:
        x = add_network(graph, layer, x)
    return x


def _linear(graph, layer, x):
    bias = [] if layer.bias is None else [layer.bias]
    return graph.add("Gemm", x, layer.weight, *bias, transB=int(type(layer) is nn.Linear))


def _gelu(graph, layer, x):
    erf = graph.add("Erf", graph.add("Mul", x, math.sqrt(0.5)))
    return graph.add("Mul", graph.add("Mul", x, 0.5), graph.add("Add", erf, 1.0))


def _silu(graph, layer, x):
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _soft_clip(graph, clip, u):
    # ONNX has no hypot. Where the square of a ratio could overflow the bound is met long before.
    ratio = graph.add("Clip", graph.add("Div", u, clip.bound), -1e9, 1e9)
    length = graph.add("Sqrt", graph.add("Add", graph.add("Mul", ratio, ratio), 1.0))
    return graph.add("Mul", graph.add("Div", ratio, length), clip.bound)


def _linear_skip(graph, skip, x):
    branch = add_network(graph, skip.branch, add_network(graph, skip.clip, x))
    return graph.add("Add", add_network(graph, skip.linear, x), branch)


def _padded(graph, layer, x):
    left, right = layer.padding
    return graph.add("Pad", x, np.array([0, left, 0, right], np.int64), float(layer.value))


def _gate(graph, gate, x):
    return graph.add("Mul", add_network(graph, gate.module, x), gate.factor)


def _soft_threshold(graph, layer, u):
    beyond = graph.add("Sub", graph.add("Abs", u), layer.threshold.clamp_min(0))
    return graph.add("Mul", graph.add("Sign", u), graph.add("Relu", beyond))


def _variational(graph, encoder, x):
    start, end, axis = (np.array([i], np.int64) for i in (0, len(encoder.log_variance), 1))
    return graph.add("Slice", add_network(graph, encoder.network, x), start, end, axis)


def _same(graph, module, x):
    return x


def _operator(kind):
    return lambda graph, module, x: graph.add(kind, x)


_WRITERS = {
    nn.Sequential: _sequential,
    MLP: _sequential,
    nn.Linear: _linear,
    TiedLinear: _linear,
    nn.ReLU: _operator("Relu"),
    nn.GELU: _gelu,
    nn.SiLU: _silu,
    nn.Tanh: _operator("Tanh"),
    nn.Sigmoid: _operator("Sigmoid"),
    nn.Identity: _same,
    nn.Dropout: _same,
    nn.ConstantPad1d: _padded,
    SoftClip: _soft_clip,
    LinearSkip: _linear_skip,
    Gate: _gate,
    SoftThreshold: _soft_threshold,
    Variational: _variational,
}


# ------------------------------------------------------------------------------------- skl2onnx


class OnnxMixin:
    """What skl2onnx asks estimators for that bring their own converter."""

    def onnx_shape_calculator(self):
        """Return what tells skl2onnx the shape of the codes.

        Returns
        -------
        calculator : callable
        """
        return _set_shape

    def onnx_converter(self):
        """Return what adds `transform` to a graph of skl2onnx.

        Returns
        -------
        converter : callable
        """
        return _convert


def _set_shape(operator):
    estimator = operator.raw_operator
    check_exportable(estimator)
    widths = [some.get_second_dimension() for some in operator.inputs]
    if None not in widths and sum(widths) != estimator.n_features_in_:
        raise ValueError(
            f"X must have n_features_in_={estimator.n_features_in_} columns, got {sum(widths)}."
        )
    n_samples = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type.shape = [n_samples, estimator.n_components_]


def _convert(scope, operator, container):
    from skl2onnx.common.data_types import guess_proto_type

    estimator, codes = operator.raw_operator, operator.outputs[0]
    graph = Graph(scope.get_unique_operator_name("skae") + "/")
    X, dtype = _one_matrix(graph, operator.inputs)
    mapped = add_mapped(graph, X, estimator, dtype=dtype)
    graph.add("Cast", mapped, output=codes.full_name, to=guess_proto_type(codes.type))
    if any("" in node.input for node in graph.nodes):
        raise ValueError(
            "skl2onnx must be given nodes without inputs that are left out, got some, as torch"
            " makes of recurrent layers; export this autoencoder by skae.onnx.to_onnx."
        )
    container.nodes.extend(graph.nodes)
    container.initializers.extend(graph.constants)
    container.node_domain_version_pair_sets.add(("", graph.opset))


def _one_matrix(graph, variables):
    """Return the name of all columns together, and their dtype: float64 if not all are float32."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import FloatTensorType

    names, dtype = [some.full_name for some in variables], np.float32
    if not all(isinstance(some.type, FloatTensorType) for some in variables):
        names = [graph.add("Cast", name, to=TensorProto.DOUBLE) for name in names]
        dtype = np.float64
    return names[0] if len(names) == 1 else graph.add("Concat", *names, axis=1), dtype
