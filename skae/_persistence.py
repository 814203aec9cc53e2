"""What a fitted estimator is made of, as text and arrays, and the estimator made of that again.

The text is JSON. For what JSON has no word there are objects whose entry ``"is"`` says what they
are: a tuple, an array (its name), a network of a class that is named here. Nothing else is
described, and of a text nothing else is made: it has no way to name other code, or a file.
"""

import copy
import itertools
import json
import math
import re
import sys

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import IncrementalPCA
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import ShuffleSplit
from skorch.dataset import ValidSplit
from skorch.history import History
from torch import nn

from skae import corruptions, losses, modules, penalties
from skae._batches import TensorBatches, TimedBatches
from skae._frames import is_polars
from skae._initialization import StreamPCA
from skae._mixed import Layout, MixedInput, MixedLoss, MixedOutput, ObservedLoss, OnNumbers
from skae._net import ReconstructionNet
from skae._soap import Soap
from skae._templates import FLOATS, INTEGERS, described_frame, frame_of_description, one_of
from skae._torch import device_or_cpu

# Names in texts are for good: those who write and those who read may be releases apart.

#: Functions and classes that are values.
_CONSTANTS = {
    "gaussian": corruptions.gaussian,
    "masking": corruptions.masking,
    "swap": corruptions.swap,
    "squared error": losses.SquaredError().function,
    "absolute error": losses.AbsoluteError().function,
    "huber": losses.Huber().function,
    "binary cross-entropy": nn.functional.binary_cross_entropy_with_logits,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "SGD": torch.optim.SGD,
    "RMSprop": torch.optim.RMSprop,
    "SOAP": Soap,
    "TensorBatches": TensorBatches,
    "TimedBatches": TimedBatches,
}
#: Layers of torch's, and what they are made from.
_LAYERS = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv1d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx"),
    nn.ConstantPad1d: ("padding", "value"),
    nn.Dropout: ("p",),
    nn.Flatten: (),
    nn.Unflatten: ("dim", "unflattened_size"),
    nn.Upsample: ("size",),
    **dict.fromkeys(modules.ACTIVATIONS.values(), ()),
}
#: Other modules, and what they have beside parameters, buffers and parts.
_MODULES = {
    nn.Sequential: (),
    nn.ModuleList: (),
    nn.ParameterList: ("_size",),
    modules.Autoencoder: (),
    modules.MLP: (),
    modules.MLP.__base__: (),  # which convolutional networks are
    modules.TiedLinear: ("bias",),
    modules.SoftClip: (),
    modules.Gate: (),
    modules.LinearSkip: (),
    modules.Logistic: (),
    modules.SoftThreshold: (),
    modules.Variational: ("draws",),
    modules.Filled: ("in_training",),
    MixedInput: ("n_plain", "embedded"),
    MixedOutput: ("n_numbers", "n_one_hot"),
    MixedLoss: ("function", "n_numbers", "baselines", "units"),
    ObservedLoss: ("function", "share"),
    losses.Loss: ("function",),
    losses.EntrywiseLoss: ("function",),
    losses.SquaredError: ("function",),
    losses.AbsoluteError: ("function",),
    losses.Huber: ("function",),
    losses.BinaryCrossEntropy: ("function",),
}
#: Classes whose objects are no more than their attributes. Estimators may get more parameters, and
#: so begin with the defaults of all.
_OBJECTS = {
    cls.__name__: cls
    for cls in (
        OnNumbers,
        StreamPCA,
        ValidSplit,
        ShuffleSplit,
        FrozenEstimator,
        GaussianMixture,
        IncrementalPCA,
        penalties.L1,
        penalties.L2,
        penalties.ActivityL1,
        penalties.Contractive,
        penalties.KL,
        modules.ConvEncoder,
        modules.ConvDecoder,
    )
}
_WITH_DEFAULTS = {GaussianMixture, IncrementalPCA}
_MODULE_NAMES = {cls.__name__: cls for cls in (*_LAYERS, *_MODULES)}
_CONSTANT_NAMES = {id(value): name for name, value in _CONSTANTS.items()}
_SCALARS = {name: np.dtype(name).type for name in ("bool", *INTEGERS, *FLOATS)}
# dtypes of tables without rows, whose size is not that of an array
_EMPTY = r"[<>|]([biufcmM][0-9]{1,2}(\[[0-9a-zA-Z]{1,4}\])?|O|[SU][0-9]{1,6})"
# What every module has.
_BARE = vars(nn.Module())
_CONTENT = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training")


class UndescribableError(TypeError):
    """A value is not one of those that are known here."""

    def __init__(self, value, path):
        self.value, self.path = value, path
        super().__init__(f"{path} is a {type(value).__name__}")


def describable(cls):
    """Let objects of an estimator's class be described by their attributes; return the class."""
    _OBJECTS[cls.__name__] = cls
    _WITH_DEFAULTS.add(cls)
    return cls


def is_describable(value):
    """Return whether a value is made of nothing but what is known here."""
    try:
        Writer().describe(value, "")
    except (UndescribableError, RecursionError):
        return False
    return True


class Writer:
    """Describes values, and gathers their arrays.

    Parameters
    ----------
    own : dict of int to (str, object), default=None
        What stands for values of a user's own, by their ids: who has it, and what is to be known of
        it. Of modules the state is kept.

    Attributes
    ----------
    arrays : dict of str to ndarray
        What they share memory with is left to the reader to copy.
    """

    def __init__(self, own=None):
        self.own = own or {}
        self.arrays = {}
        self._names = {}  # of tensors, by their ids
        self._numbers = {}  # of modules
        self._kept = []  # tensors that others may free, so that no other gets their ids
        self._writers = {
            float: self._float,
            list: self._list,
            tuple: self._tuple,
            dict: self._dict,
            np.ndarray: self._array,
            torch.Tensor: self._tensor,
            nn.Parameter: self._tensor,
            torch.device: self._device,
            np.random.RandomState: self._random_state,
            ReconstructionNet: self._net,
            pd.DataFrame: self._frame,
            Layout: lambda value, path: {"is": "layout", "n_categories": value.n_categories},
        }

    def describe(self, value, path):
        """Return the description of a value, which json can write.

        Parameters
        ----------
        value : object
        path : str
            Where it is found, from which the names of arrays are made.

        Raises
        ------
        UndescribableError
            If it, or a part of it, is nothing that is known here.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if id(value) in self.own and not is_describable(value):
            return self._of_ones_own(value, path)
        if kind in self._writers:
            return self._writers[kind](value, path)
        if id(value) in _CONSTANT_NAMES:
            return {"is": "constant", "name": _CONSTANT_NAMES[id(value)]}
        if isinstance(value, np.generic):
            return self._scalar(value, path)
        if kind in _LAYERS or kind in _MODULES:
            return self._module(value, path)
        if _OBJECTS.get(kind.__name__) is kind:
            # our estimators may have some that are to be computed first
            values = getattr(kind, "_attributes", vars)(value)
            attributes = self.attributes(values, path)
            return {"is": "object", "class": kind.__name__, "attributes": attributes}
        if is_polars(value):
            return self._frame(value, path)
        raise UndescribableError(value, path)

    def attributes(self, values, path):
        """Return the descriptions of the values of a dict of attributes."""
        if any(name.startswith("__") for name in values):
            raise UndescribableError(values, path)
        prefix = f"{path}." if path else ""
        return {name: self.describe(value, prefix + name) for name, value in values.items()}

    def _of_ones_own(self, value, path):
        role, more = self.own[id(value)]
        own = {"is": "own", "role": role, **more}
        if isinstance(value, nn.Module):
            own["state"] = self.attributes(value.state_dict(), path)
        return own

    def _float(self, value, path):
        return value if math.isfinite(value) else {"is": "float", "value": str(value)}

    def _list(self, values, path):
        if len(values) > 8 and all(type(value) is float for value in values):
            return {"is": "floats", "array": self._stored(np.array(values), path)}
        return [self.describe(value, f"{path}.{i}") for i, value in enumerate(values)]

    def _tuple(self, values, path):
        return {"is": "tuple", "of": self._list([*values], path)}

    def _dict(self, values, path):
        items = [[*item] for item in values.items()]
        return {"is": "dict", "items": self._list(items, path)}

    def _scalar(self, value, path):
        if value.dtype.kind == "U":
            return {"is": "scalar", "dtype": "str", "value": str(value)}
        if _SCALARS.get(value.dtype.name) is not type(value):
            raise UndescribableError(value, path)
        item = self.describe(value.item(), path)
        return {"is": "scalar", "dtype": value.dtype.name, "value": item}

    def _array(self, value, path):
        kind = value.dtype.kind
        if value.dtype.name in _SCALARS and value.dtype.isnative:
            return {"is": "array", **self._ordered(value, path)}
        if kind == "U" and value.dtype.isnative and value.size:
            # one number for each character, so that no more memory is asked for than there is
            characters = np.ascontiguousarray(value)[..., None].view(np.uint32)
            return {"is": "strings", "array": self._stored(characters, path)}
        if kind == "O":
            shape, values = list(value.shape), value.ravel().tolist()
            return {"is": "objects", "shape": shape, "of": self._list(values, path)}
        if not value.size and re.fullmatch(_EMPTY, value.dtype.str):
            return {"is": "empty", "shape": list(value.shape), "dtype": value.dtype.str}
        raise UndescribableError(value, path)

    def _ordered(self, array, path):
        """Store an array with its order in memory, on which the last bits of products depend."""
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            return {"array": self._stored(array.T, path), "transposed": True}
        return {"array": self._stored(array, path)}

    def _stored(self, array, path):
        while path in self.arrays:
            path += "_"
        self.arrays[path] = array
        return path

    def _tensor(self, value, path):
        if id(value) not in self._names:
            try:
                array = value.detach().cpu().numpy()
            except TypeError:  # numpy has no such dtype
                raise UndescribableError(value, path) from None
            if array.dtype.name not in _SCALARS:
                raise UndescribableError(value, path)
            self._names[id(value)] = self._ordered(array, path)
            self._kept.append(value)
        tensor = {"is": "tensor", **self._names[id(value)]}
        if isinstance(value, nn.Parameter) and not value.requires_grad:
            tensor["fixed"] = True
        return tensor

    def _device(self, value, path):
        return {"is": "device", "name": str(value)}

    def _random_state(self, value, path):
        return {"is": "random state", "state": self._dict(value.get_state(legacy=False), path)}

    def _frame(self, value, path):
        made_of = described_frame(value)
        if made_of is None:
            raise UndescribableError(value, path)
        return {"is": "frame", "of": self.describe(made_of, path)}

    def _module(self, module, path):
        if id(module) in self._numbers:
            return {"is": "the same", "number": self._numbers[id(module)]}
        self._numbers[id(module)] = len(self._numbers)
        kind, has = type(module), vars(module)
        attributes = _plain_attributes(module)
        known = self._made_from(module, path) if kind in _LAYERS else attributes
        if any(has[name] != _BARE[name] for name in _BARE if name not in _CONTENT) or (
            kind in _MODULES and not set(attributes) <= set(_MODULES[kind])
        ):
            raise UndescribableError(module, path)  # it has hooks, say
        content = {
            "attributes": self.attributes(known, path),
            "parameters": self.attributes(module._parameters, path),
            "buffers": self.attributes(module._buffers, path),
            "unsaved": sorted(module._non_persistent_buffers_set),
            "parts": self.attributes(module._modules, path),
        }
        content = {name: some for name, some in content.items() if some}
        return {"is": "module", "class": kind.__name__, **content}

    def _made_from(self, layer, path):
        """Return from what a layer is made, if another one made of that is the same."""
        made_from = {name: getattr(layer, name) for name in _LAYERS[type(layer)]}
        try:
            again = _layer(type(layer), made_from)
        except (TypeError, ValueError):
            raise UndescribableError(layer, path) from None
        if _plain_attributes(again) != _plain_attributes(layer):
            raise UndescribableError(layer, path)
        return made_from

    def _net(self, net, path):
        return {
            "is": "net",
            "module": self.describe(net.module_, f"{path}.module"),
            "criterion": self.describe(net.criterion_, f"{path}.criterion"),
            "history": self._history(net.history, f"{path}.history"),
            "settings": self.attributes(net.settings(), f"{path}.settings"),
        }

    def _history(self, epochs, path):
        """Describe a history by columns, of which most are numbers."""
        batches = [batch for epoch in epochs for batch in epoch["batches"]]
        sizes = [len(epoch["batches"]) for epoch in epochs]
        rows = [{k: v for k, v in epoch.items() if k != "batches"} for epoch in epochs]
        return {
            "is": "history",
            "epochs": self._table(rows, f"{path}.epochs"),
            "batches": self._table(batches, f"{path}.batches"),
            "sizes": self._list(sizes, path),
        }

    def _table(self, rows, path):
        """Describe a list of dicts as tables, each of rows with the same keys."""
        tables = itertools.groupby(enumerate(rows), lambda item: [*item[1]] or item[0])
        return [
            self._dict(_columns([row for _, row in table]), f"{path}.{i}")
            for i, (_, table) in enumerate(tables)
        ]


class Reader:
    """Makes values of their descriptions.

    Parameters
    ----------
    arrays : dict of str to ndarray
    given : dict, default=()
        What a user has given, by its names.
    own : callable, default=None
        ``(text, known) -> object`` returns what takes the place of a user's own, given its
        description and the attributes that have been made before it.

    Attributes
    ----------
    known : dict
        Attributes that have been made.
    used : set of str
        The names of the arrays that values were made of.
    own_modules : list of (nn.Module, dict)
        Those that `own` returned, and their descriptions.
    """

    def __init__(self, arrays, given=(), own=None):
        self.arrays = arrays
        self.given, self.own = given, own
        self.known, self.used, self.own_modules = {}, set(), []
        self._tensors, self._made = {}, []
        self._readers = {
            "float": lambda text: float(one_of(("nan", "inf", "-inf"), text["value"])),
            "floats": lambda text: self._array(text).astype(np.float64, casting="no").tolist(),
            "tuple": lambda text: tuple(self.value(text["of"])),
            "dict": lambda text: dict(self.value(text["items"])),
            "array": lambda text: _in_order(self._array(text).copy(), text),
            "strings": self._strings,
            "objects": self._objects,
            "empty": self._empty,
            "scalar": self._scalar,
            "constant": lambda text: _CONSTANTS[text["name"]],
            "object": self._object,
            "device": lambda text: torch.device(text["name"]),
            "random state": self._random_state,
            "layout": lambda text: Layout(text["n_categories"]),
            "frame": lambda text: frame_of_description(self.value(text["of"])),
            "tensor": self._tensor,
            "module": self._module,
            "the same": lambda text: self._made[text["number"]],
            "own": self._of_ones_own,
            "net": self._net,
        }

    def value(self, text):
        """Return the value of a description."""
        if isinstance(text, list):
            return [self.value(part) for part in text]
        return self._readers[text["is"]](text) if isinstance(text, dict) else text

    def attributes(self, texts, values=None):
        """Return the values of a dict of attributes, one after the other."""
        values = {} if values is None else values
        for name, text in texts.items():
            values[_attribute(name)] = self.value(text)
        return values

    def _array(self, text):
        self.used.add(text["array"])
        return self.arrays[text["array"]]

    def _strings(self, text):
        characters = self._array(text).astype(np.uint32, casting="no")
        if (characters > sys.maxunicode).any():  # which numpy does not always find
            raise ValueError("some numbers are those of no characters")
        return np.ascontiguousarray(characters).view(f"<U{characters.shape[-1]}")[..., 0]

    def _objects(self, text):
        values = self.value(text["of"])
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array.reshape(text["shape"])

    def _empty(self, text):
        if not re.fullmatch(_EMPTY, text["dtype"]) or 0 not in text["shape"]:
            raise ValueError(f"{text} is not empty")
        return np.empty(text["shape"], dtype=text["dtype"])

    def _scalar(self, text):
        if text["dtype"] == "str":
            return np.str_(text["value"])
        return _SCALARS[text["dtype"]](self.value(text["value"]))

    def _object(self, text):
        cls = _OBJECTS[text["class"]]
        made = cls() if cls in _WITH_DEFAULTS else object.__new__(cls)
        vars(made).update(self.attributes(text["attributes"]))
        return made

    def _random_state(self, text):
        random_state, state = np.random.RandomState(0), self.value(text["state"])
        one_of(range(625), state["state"]["pos"])  # numpy would read on from there
        random_state.set_state(state)
        return random_state

    def _tensor(self, text, kind=torch.tensor):
        key = text["array"], kind
        if key not in self._tensors:
            # a copy in torch's own memory: where it begins can decide on the last bits of products
            tensor = _in_order(torch.tensor(self._array(text)), text)
            if kind is nn.Parameter:
                is_trained = tensor.is_floating_point() and "fixed" not in text
                tensor = nn.Parameter(tensor, requires_grad=is_trained)
            self._tensors[key] = tensor
        return self._tensors[key]

    def _module(self, text):
        number = len(self._made)
        self._made.append(None)
        cls, attributes = _MODULE_NAMES[text["class"]], self.attributes(text.get("attributes", {}))
        module = _layer(cls, attributes) if cls in _LAYERS else _shell(cls, attributes)
        parameters, buffers = (
            {name: one and self._tensor(one, kind) for name, one in text.get(key, {}).items()}
            for key, kind in (("parameters", nn.Parameter), ("buffers", torch.tensor))
        )
        if cls in _LAYERS:
            _check_shapes(module, parameters | buffers)
        for name, parameter in parameters.items():
            module.register_parameter(name, parameter)
        for name, buffer in buffers.items():
            is_saved = name not in text.get("unsaved", ())
            module.register_buffer(name, buffer, persistent=is_saved)
        for name, part in text.get("parts", {}).items():
            module.register_module(name, self.value(part))
        self._made[number] = module.eval()
        return module

    def _of_ones_own(self, text):
        one_of(self.given, text["role"])
        state = {name: self.value(tensor) for name, tensor in text.get("state", {}).items()}
        try:
            value = self.own(text, self.known)
            if "state" in text:
                value.load_state_dict(state)
                self.own_modules.append((value.eval(), text))
        except Exception as error:  # code of anybody's
            raise OtherCodeError(
                f"{text['role']} must be what the model was saved with, whose weights are in the"
                f" file, got another one ({error}); pass that one."
            ) from error
        return value

    def _net(self, text):
        settings = {name: self.value(one) for name, one in text["settings"].items()}
        settings["device"] = device_or_cpu(settings["device"])
        return ReconstructionNet.trained(
            self.value(text["module"]),
            self.value(text["criterion"]).eval(),
            self._history(text["history"]),
            settings,
        )

    def _history(self, text):
        epochs, batches = (self._rows(text[name]) for name in ("epochs", "batches"))
        ends = itertools.accumulate(text["sizes"])
        parts = [batches[end - n : end] for n, end in zip(text["sizes"], ends, strict=True)]
        return History(
            {"batches": part, **epoch} for part, epoch in zip(parts, epochs, strict=True)
        )

    def _rows(self, tables):
        rows = []
        for columns in map(self.value, tables):
            values = zip(*columns.values(), strict=True) if columns else [()]
            rows += [dict(zip(columns, row, strict=True)) for row in values]
        return rows


class OtherCodeError(ValueError):
    """What a user has given is not what a model was saved with."""


def _columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def _plain_attributes(module):
    return {name: value for name, value in vars(module).items() if name not in _BARE}


def _layer(cls, made_from):
    """Return a layer without values, which takes no memory however large it is."""
    with torch.device("meta"):
        layer = cls(**made_from)
    _check_growth(layer)
    return layer


def _check_growth(layer):
    """Refuse a layer that makes more of a row than its weights have to do with."""
    if isinstance(layer, nn.Upsample):
        is_large = math.prod(layer.size) > 2**24
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        sides = zip(layer.padding, layer.kernel_size, strict=True)
        is_large = any(padding >= width for padding, width in sides)
    else:
        return
    if is_large:
        raise ValueError(f"{layer} makes too much of a row")


def shapes_of(module, stand_ins):
    """Return a copy of a module that maps shapes: its tensors have no values, and take no memory.

    Parameters
    ----------
    module : nn.Module
    stand_ins : dict of int to nn.Module
        What takes the place of parts of it, by their ids.
    """
    tensors = {id(p): nn.Parameter(_shape_of(p), requires_grad=False) for p in module.parameters()}
    tensors |= {id(buffer): _shape_of(buffer) for buffer in module.buffers()}
    return copy.deepcopy(module, {**stand_ins, **tensors})


def _shape_of(tensor):
    return torch.empty_like(tensor, device="meta", requires_grad=False)


def _shell(cls, attributes):
    """Return a module that has attributes alone."""
    if not set(attributes) <= set(_MODULES[cls]):
        raise ValueError(f"{cls.__name__} has no {sorted(attributes)}")
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    vars(module).update(attributes)
    return module


def _check_shapes(layer, tensors):
    """Refuse tensors that are not those of a layer of torch's."""
    needed = {**layer._parameters, **layer._buffers}
    for name in needed | tensors:
        here, there = needed[name], tensors[name]
        if there is not None and (there.shape != here.shape or there.dtype != torch.float32):
            raise ValueError(f"{name} must have shape {tuple(here.shape)}, got {there.shape}")


def _attribute(name):
    if name.startswith("__"):
        raise ValueError(f"{name!r} is no name of an attribute")
    return name


def _in_order(array, text):
    """Return an array or tensor with the order that it had in memory."""
    if "transposed" not in text:
        return array
    axes = tuple(range(array.ndim))[::-1]
    return array.transpose(axes) if isinstance(array, np.ndarray) else array.permute(axes)


def described(attributes, names=None, own=None):
    """Return what describes attributes.

    Parameters
    ----------
    attributes : dict of str to object
        In the order in which they are made again.
    names : dict of str to str, default=None
        What a user has to give beside them, and what it is called.
    own : dict, default=None
        As for :class:`Writer`.

    Returns
    -------
    text : str
    arrays : dict of str to ndarray

    Raises
    ------
    UndescribableError
        If an attribute is nothing that is known here.
    """
    writer = Writer(own)
    text = {"own": names or {}, "attributes": writer.attributes(attributes, "")}
    return json.dumps(text, allow_nan=False, separators=(",", ":")), writer.arrays


def restored(text, arrays, given=(), own=None):
    """Return the attributes that :func:`described` was given, and the modules of a user's own.

    Parameters
    ----------
    text : str
    arrays : dict of str to ndarray
    given : dict, default=()
    own : callable, default=None
        As for :class:`Reader`.

    Returns
    -------
    attributes : dict of str to object
    own_modules : list of (nn.Module, dict)
        As in :class:`Reader`.

    Raises
    ------
    OtherCodeError
        If the user has given something else than what has to be.
    Exception
        Of any kind, if the text and the arrays are not such as :func:`described` returns.
    """
    reader = Reader(arrays, given, own)
    text = json.loads(text, parse_constant=_no_number)
    _check_given(text["own"], given)
    attributes = reader.attributes(text["attributes"], reader.known)
    unused = sorted(set(arrays) - reader.used)
    if unused:
        raise ValueError(f"arrays {unused[:3]} belong to nothing")
    return attributes, reader.own_modules


def _check_given(names, given):
    if set(names) == set(given):
        return
    if names:
        saved_with = ", ".join(f"{name}={value}" for name, value in names.items())
        call = ", ".join(f"{name}=..." for name in names)
        raise OtherCodeError(
            f"The model was saved with {saved_with}, which is code of your own and not in the file,"
            f" got {sorted(given)}; call load_model(path, {call})."
        )
    raise OtherCodeError(
        "The model was saved without code of your own, and with all parameters, got"
        f" {sorted(given)}; call load_model(path), and set_params to change some."
    )


def _no_number(name):
    raise ValueError(f"{name} is no number of JSON")
