"""Files of models: some text and named arrays as one safetensors file, and nothing else.

The text is an array of bytes beside the others. The header says which protocol the text follows,
which versions wrote it, and a checksum of all there is. Names in a file are names of arrays, never
of files or of code.
"""

import contextlib
import hashlib
import json
import os
import secrets

import numpy as np
from safetensors.numpy import load, save

#: The protocol that is written, and the latest that is read.
PROTOCOL = 1

# The header of a network with ten thousand arrays is a tenth of it.
_MAX_HEADER = 2**24
_TEXT = "description"
_OTHER_FORMATS = {
    b"\x80": "a pickle; pickle.load and joblib.load read those, and run what is in them, so only"
    " if you trust who wrote it",
    b"PK": "a zip archive, as skops and torch write them; skops.io.load may read it",
    b"x": "something compressed; joblib.load may read it, if you trust who wrote it",
}


def dumps(text, arrays, versions):
    """Return the content of a file: the same bytes for the same arguments.

    Parameters
    ----------
    text : str
    arrays : dict of str to ndarray
        Of numbers and booleans.
    versions : dict of str to str
        Those of the packages that write it.

    Returns
    -------
    bytes
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    arrays[_TEXT] = np.frombuffer(text.encode("ascii"), np.uint8)
    about = {"protocol": PROTOCOL, **versions}
    about["sha256"] = _checksum(about, arrays)
    # one entry, as safetensors writes several in any order
    return save(arrays, {"skae": json.dumps(about)})


def loads(content, source):
    """Return the text and the arrays of which `dumps` has made some bytes.

    It takes memory in proportion to their number, whatever they declare.

    Parameters
    ----------
    content : bytes
    source : str
        What they are called in an error.

    Returns
    -------
    text : str
    arrays : dict of str to ndarray

    Raises
    ------
    ValueError
        If they are something else, of a newer protocol, or no longer as they were written.
    """
    if not isinstance(content, bytes):
        raise refused(source, f"a {type(content).__name__}")
    _check_beginning(content[:9], len(content), source)
    try:
        arrays = load(content)
        header = json.loads(content[8 : 8 + _header_size(content)], object_pairs_hook=_unique)
        about = json.loads(header.get("__metadata__", {}).get("skae", "{}"))
        protocol, checksum = about.get("protocol"), about.pop("sha256", None)
        is_readable = type(protocol) is int and 1 <= protocol <= PROTOCOL
        is_whole = is_readable and checksum == _checksum(about, arrays)
        text = arrays.pop(_TEXT).tobytes().decode("ascii") if is_whole else None
    except Exception as error:  # whatever parsers make of bytes that anybody may have written
        raise refused(source, f"damaged ones ({error})") from error
    if protocol is None:
        raise refused(source, "a safetensors file of something else", "load it with what wrote it")
    if type(protocol) is int and protocol > PROTOCOL:
        what = f"those of protocol {protocol}, written by skae {about.get('skae')}, while this"
        raise refused(source, f"{what} version reads protocols up to {PROTOCOL}", "upgrade skae")
    if not is_readable:
        raise refused(source, f"those of protocol {protocol!r}, which there is not")
    if not is_whole:
        raise refused(source, "some whose checksum is not that of their content")
    return text, arrays


def refused(source, what, way_out="load a copy that is whole"):
    """Return the error for bytes that are not what they must be."""
    return ValueError(f"{source} must hold bytes as save_model wrote them, got {what}; {way_out}.")


def _unique(pairs):
    """Return a dict of pairs, whose keys may not occur twice: two readers might take either."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _header_size(content):
    return int.from_bytes(content[:8], "little")


def _check_beginning(beginning, size, source):
    """Refuse what is no safetensors file by its first nine bytes, before a parser sees it."""
    if beginning[8:] == b"{" and _header_size(beginning) <= min(size - 8, _MAX_HEADER):
        return
    for first, what in _OTHER_FORMATS.items():
        if beginning.startswith(first):
            raise refused(source, what, "load_model reads what save_model wrote")
    raise refused(source, f"{size} that do not begin like those, or are cut off")


def _checksum(about, arrays):
    """Return a digest of all that is in a file. It tells of damage, not of who wrote the file."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write(path, content):
    """Write a file in one step: until it is complete, what was there is there.

    Parameters
    ----------
    path : str or os.PathLike
    content : bytes
    """
    real = os.path.realpath(path)
    # beside the file, as only within a file system it can be put in its place in one step
    temporary = os.path.join(os.path.dirname(real), f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, real)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno:  # of the file that was named
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def read(path, source):
    """Return the content of a file, if it begins like that of a model.

    Parameters
    ----------
    path : str or os.PathLike
    source : str
        What it is called in an error.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If it is another file, a directory or device.
    OSError
        If there is no such file, or it cannot be read.
    """
    size = os.stat(path).st_size
    if not os.path.isfile(path):
        raise refused(source, "a directory or device", "name a file")
    with open(path, "rb") as file:
        beginning = file.read(9)
        _check_beginning(beginning, size, source)
        return beginning + file.read()
