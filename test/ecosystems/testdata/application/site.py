import pathlib
import sys

root = pathlib.Path(sys.argv[1])
root.mkdir(parents=True)
for i in range(200):
    (root / f"{i}.html").write_text(f"<h1>{i}</h1>\n")
