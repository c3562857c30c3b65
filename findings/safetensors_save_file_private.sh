#!/bin/bash
# safetensors 0.8.0 against 0.7.0 (torch 2.13.0), 2026-11-30
# One would have sworn: save_file(tensors, path) writes the file that path names, like open(path, "wb"): a new file gets the mode that the
# umask leaves (0644), an old one keeps its mode, and through a link the file behind it is written.
# What happens since 0.8.0: the file is written beside it, as .tmp and six letters, for its owner alone, and renamed over path. So every
# saved file has mode 0600, whatever the umask says and whatever mode the old one had: colleagues, a web server or another container's
# user can't read the model any more. A link is replaced by a file, what it pointed to stays as it was. A process that is killed
# meanwhile leaves .tmpXXXXXX behind. The documentation of save_file says none of it. save(), which returns bytes, isn't concerned.
# Seen, umask 022: 0.7.0: new 0644, over a file of 0664 0664, the link kept and followed. 0.8.0: 0600, 0600, the link replaced.
set -euo pipefail
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cd "$d"
python3 -m venv v
v/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging==26.0

cat > look.py <<'END'
import os
import sys
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file

os.umask(0o022)
old, target, link = Path("old.safetensors"), Path("target.safetensors"), Path("link.safetensors")
for path in (old, target, link):
    path.unlink(missing_ok=True)
old.touch()
old.chmod(0o664)
target.touch()
link.symlink_to(target)
new = Path(f"new-{safetensors.__version__}.safetensors")
for path in (new, old, link):
    save_file({"weight": torch.ones(4)}, path)
    assert load_file(path)["weight"].sum() == 4
found = [oct(new.stat().st_mode & 0o777), oct(old.stat().st_mode & 0o777), link.is_symlink(), target.stat().st_size > 0]
print(safetensors.__version__, *found)
expected = ["0o600", "0o600", False, False] if sys.argv[1] == "0.8.0" else ["0o644", "0o664", True, True]
assert safetensors.__version__ == sys.argv[1] and found == expected
END
for version in 0.7.0 0.8.0; do
    v/bin/pip install -q safetensors==$version
    v/bin/python look.py $version
done
