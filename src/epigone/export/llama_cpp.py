"""The folder for llama.cpp and Ollama: the GGUF file, a Modelfile with the tuned temperature, and how to use both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from epigone.errors import quote_command
from epigone.export.gguf_file import MAGIC, GgufType, write_gguf
from epigone.export.source import TOP_P, SourceModel, check_may_replace, make_place
from epigone.files import write_text
from epigone.report.escape import escape_markdown

MARK = "written by epigone export"
"""In the first lines of what lies beside the GGUF file, so that it is recognised when it is written again."""


@dataclass(frozen=True, slots=True)
class GgufExport:
    """What was written."""

    model: Path
    modelfile: Path
    readme: Path


def export_gguf(source: SourceModel, kind: GgufType = "f16", out: Path | None = None) -> GgufExport:
    """Write the model for llama.cpp and Ollama into a folder, or as the .gguf file that `out` names.

    Raises SettingsError, OutputError.
    """
    is_file = out is not None and out.suffix == ".gguf"
    folder = make_place(out.parent if out is not None and is_file else out or source.place)
    model = out if out is not None and is_file else folder / f"{source.file_name}-{kind}.gguf"
    files = GgufExport(model, folder / "Modelfile", folder / "README.md")
    check_may_replace(files.model, [MAGIC])
    for path in (files.modelfile, files.readme):
        check_may_replace(path, [MARK.encode()])
    write_gguf(source, model, kind)
    write_text(files.modelfile, make_modelfile(source, model.name))
    write_text(files.readme, make_readme(source, model.name))
    return files


def make_modelfile(source: SourceModel, file_name: str) -> str:
    """For `ollama create`. The template adds nothing to the prompt: the model continues a text, it is not for chats."""
    return f"""\
# {MARK}
FROM ./{file_name}
TEMPLATE \"\"\"{{{{ .Prompt }}}}\"\"\"
PARAMETER num_ctx {source.weights.config.n_positions}
PARAMETER temperature {source.temperature:g}
PARAMETER top_p {TOP_P:g}
PARAMETER top_k 0
PARAMETER min_p 0
PARAMETER repeat_penalty 1.0
"""


def make_readme(source: SourceModel, file_name: str) -> str:
    """How to use the files, and what to expect of them."""
    n_context, name = source.weights.config.n_positions, source.file_name
    how = f"--temp {source.temperature:g} --top-p {TOP_P:g} --top-k 0 --min-p 0 --repeat-penalty 1"
    return f"""\
# {escape_markdown(source.name)}

<!-- {MARK} -->

A GPT-2 of {source.weights.n_parameters / 1e6:,.1f} million parameters, in the format of llama.cpp.
It continues a text: it is not a chat model, and it does not follow instructions.
Begin with a few words as they could stand in the text that it has learned.

With llama.cpp:

```
llama-completion -m {file_name} -no-cnv -c {n_context} {how} -n 200 -p "It was"
```

`llama-server -m {file_name} -c {n_context}` answers at `/completion` and `/v1/completions`.

With Ollama, in this folder:

```
{quote_command("ollama", "create", name, "-f", "Modelfile")}
{quote_command("ollama", "run", name, "It was")}
```

With LM Studio: import the file, and give it an empty prompt template.

What to know:

- Its context has {n_context:,} tokens, for the prompt and what is written together: a text ends there.
  Do not ask for a larger one (`-c`, `num_ctx`), and leave `--context-shift` off: the model has no positions beyond,
  and programs stop or write nonsense.
- The temperature, {source.temperature:g}, and the other values above are those with which `epigone write` writes.
  The file holds them as well; programs that have defaults of their own, such as a penalty for repetitions, need them
  as options.
- What else `epigone write` does is not in the file: no guard against copies, unknown words and unpaired quotation
  marks, and no end at the end of a sentence.
"""
