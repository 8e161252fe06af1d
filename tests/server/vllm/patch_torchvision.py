"""Declares two of torchvision's operators, whose fakes it registers also where its CUDA library cannot be loaded."""

import importlib.util
from pathlib import Path

MARK = "import torchvision.extension  # noqa: F401\n"
DECLARED = """
if not torchvision.extension._has_ops():
    _declared = torch.library.Library("torchvision", "FRAGMENT")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""

found = importlib.util.find_spec("torchvision")
assert found is not None and found.origin is not None
file = Path(found.origin).parent / "_meta_registrations.py"
text = file.read_text()
if DECLARED not in text:
    file.write_text(text.replace(MARK, MARK + DECLARED, 1))
