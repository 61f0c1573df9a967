"""What `import scratchgan` gives, and what it does not load."""

import subprocess
import sys

import scratchgan
from scratchgan import layers, losses, optimizers, training

HEAVY = "matplotlib", "cupy", "PIL", "torch", "tqdm", "scratchgan.training", "safetensors"


def test_import_is_light():
    code = f"import sys, scratchgan; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr


def test_names():
    assert scratchgan.fit is training.fit and scratchgan.load is training.load
    assert scratchgan.__version__.count(".") == 2
    for name in scratchgan.__all__:
        assert getattr(scratchgan, name) is not None and name in dir(scratchgan)
    for name in layers.__all__:
        assert getattr(scratchgan, name) is getattr(layers, name)
    for module, base in ((losses, losses.Loss), (optimizers, optimizers.Optimizer)):
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, base) and value is not base:
                assert name in scratchgan.__all__, f"{name} is not in scratchgan.__all__"
    assert not hasattr(scratchgan, "nonsense")
