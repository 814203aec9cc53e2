"""Examples in docstrings that need a package are left out where it is not installed."""

import importlib.util

_NEEDED = {"skae/onnx.py": "onnx"}

collect_ignore = [path for path, name in _NEEDED.items() if importlib.util.find_spec(name) is None]
