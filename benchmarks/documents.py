"""A PDF and a DOCX of many pages: what reading them costs, how many tokens they are, what is said where they are too long,
and what questions and an intrinsic on each cost: whole where it fits, on the pages of the PDF that do where it does not.

    python benchmarks/documents.py [--pages 40] [--paragraphs 4] [--ctx 8192] [--read-only]

With `--paragraphs 1`, forty pages fit into 8,192 tokens.

The documents are made here, by reportlab and python-docx; the model is the embedded one. Needs the tests' packages.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from alora_gguf import ContextFullError, Conversation, Model, bundled_adapters, default_model, read_document

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tests" / "documents"))

from made import docx_of_pages, pdf_of_pages  # noqa: E402

QUESTION = "What does a seat on the night ferry cost?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--paragraphs", type=int, default=4, help="of 80 words, on each page")
    parser.add_argument("--ctx", type=int, default=8192)
    parser.add_argument("--read-only", action="store_true", help="without questions")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Model(default_model(), n_ctx=args.ctx) as model:
        model.load_adapter(bundled_adapters()["answerability"], "answerability")
        pdf, docx = Path(folder, "report.pdf"), Path(folder, "report.docx")
        pdf.write_bytes(pdf_of_pages(args.pages, paragraphs=args.paragraphs))
        docx.write_bytes(docx_of_pages(args.pages, paragraphs=args.paragraphs))
        for path in (pdf, docx):
            seconds = min(_seconds(lambda: read_document(path)) for _ in range(3))
            text = read_document(path).text
            print(
                f"{path.name}: {path.stat().st_size:,} bytes, {seconds:.2f} s, {len(text):,} characters, {len(model.tokenize(text)):,} tokens",
                flush=True,
            )
        if args.read_only:
            return
        for path in (pdf, docx):
            model.clear_cache()
            with model.conversation() as chat:
                if attach(chat, path):
                    ask(chat)


def attach(chat: Conversation, path: Path) -> bool:
    """Whether it, or some of it, could be; says which."""
    try:
        chat.attach(path)
        print(f"{path.name}, all of it:", flush=True)
        return True
    except ContextFullError as e:
        print(f"{e}", flush=True)
        pages = str(e).partition("as ")[2].partition(";")[0] if path.suffix == ".pdf" else ""
    if pages:
        chat.attach(path, pages=pages)
        print(f"{path.name}, pages {pages}:", flush=True)
    return bool(pages)


def ask(chat: Conversation) -> None:
    for name, call in (
        ("the question", lambda: chat.ask(QUESTION, temperature=0, max_tokens=40)),
        ("answerability", lambda: chat.invoke("answerability")),
        ("another question", lambda: chat.ask("And dogs?", temperature=0, max_tokens=40)),
    ):
        began = time.perf_counter()
        reply = call()
        use = reply.usage
        print(
            f"  {name}: {use.cached_tokens:,} tokens reused, {use.prompt_tokens - use.cached_tokens:,} computed, "
            f"first token after {use.ttft_ms / 1000:.1f} s, all after {time.perf_counter() - began:.1f} s: {(reply.result or reply.text)!s:.100}",
            flush=True,
        )


def _seconds(run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
