"""Jobs whose length and end the tests decide (JOB_MODULES in the image of tests/cluster/Dockerfile)."""

from carafe import Job


class Quick(Job, kind="cluster.quick"):
    """A moment of work: what the load is made of."""

    number: int = 0


class Wait(Job, kind="cluster.wait"):
    """Seconds of waiting; says on which pod."""

    seconds: float


class Hold(Job, kind="cluster.hold", timeout=1800):
    """Runs until its tag is released (`Deployment.release`); its progress note is its pod's name."""

    tag: str


class Hog(Job, kind="cluster.hog", max_retries=1):
    """Takes memory until somebody stops it, inside the worker's own process."""


class HogApart(Job, kind="cluster.hog-apart", max_retries=1):
    """Takes memory until somebody stops it, in a child process."""


class Block(Job, kind="cluster.block", timeout=600):
    """Holds the worker's event loop for good at its first attempt; harmless after that."""


class Fail(Job, kind="cluster.fail", max_retries=0):
    """Fails until its tag is released."""

    tag: str
