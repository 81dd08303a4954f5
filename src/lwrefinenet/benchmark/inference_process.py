"""A process that runs one network in one way: `python -m lwrefinenet.benchmark.inference_process JOB`."""

import ctypes
import gc
import io
import json
import resource
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from lwrefinenet.benchmark.backends import open_backend
from lwrefinenet.benchmark.subjects import open_subject
from lwrefinenet.benchmark.worker import Answer, Worker, serve
from lwrefinenet.images import read_picture
from lwrefinenet.upsample import labels_at

WARM_UP = 3
QUALITY = 95  # of the JPEG that is decoded


@dataclass(frozen=True)
class InferenceJob:
    """What is run.  size: (height, width) to which the picture is resized before anything is measured.

    picture: its file.  folder: where logits and mask are left, to be compared.  batch: pictures that the network sees at once.
    """

    subject: str
    backend: str
    size: tuple[int, int]
    threads: int
    picture: str
    folder: str
    batch: int = 1

    def results(self) -> Path:
        """Where logits, and labels of their bilinear resizing, are left."""
        return Path(self.folder) / f"{self.subject}.{self.backend}.npz".replace("/", "_")


def inference_process(job: InferenceJob) -> Worker:
    """The process; ready, it says what it runs (`runtime`, `megabytes`), and then, each time, the `seconds` of each part of PARTS
    and its `peak_megabytes` of memory so far.
    """
    return Worker(__name__, [json.dumps(asdict(job))], what=f"{job.subject} on {job.backend}", threads=job.threads)


def main(job: InferenceJob) -> None:
    """Open, warm up, leave the results to be compared, then a picture whenever asked."""
    torch.set_num_threads(job.threads)
    height, width = job.size
    pixels = np.array(PIL.Image.fromarray(read_picture(job.picture).pixels).resize((width, height)))
    subject = open_subject(job.subject)
    opened = open_backend(job.backend, subject, pixels, job.batch)
    jpeg = io.BytesIO()
    PIL.Image.fromarray(pixels).save(jpeg, "JPEG", quality=QUALITY)
    for _ in range(WARM_UP):
        passage = opened.run(jpeg.getvalue())
    logits = passage.logits[:1].cpu()
    np.savez(job.results(), logits=logits.numpy(), labels=labels_at(logits, job.size)[0].numpy())
    del subject, passage
    give_back()

    forget_peak()

    def once() -> Answer:
        return {"seconds": opened.run(jpeg.getvalue()).seconds, "peak_megabytes": peak_megabytes()}

    serve({"runtime": opened.name, "megabytes": opened.megabytes}, once)


def give_back() -> None:
    """What was needed to make a graph is needed no longer."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """What making the graph took shall not count as what running it takes; on Linux, where the system can forget."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """The most memory that this process held at a time."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(InferenceJob(**{**given, "size": tuple(given["size"])}))
