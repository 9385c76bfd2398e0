"""SQLAlchemy is loaded before the first job where a handler may use it, and nowhere else."""

import sys
from types import ModuleType

import pytest

from carafe.engine.ahead import transacting

USES = """
def helper(ctx):
    async def inner():
        async with ctx.transaction():
            pass
    return inner

async def handler(job, ctx): ...
"""

IN_A_CLASS = """
class Service:
    @classmethod
    async def save(cls, ctx):
        async with ctx.transaction() as session:
            return session

async def handler(job, ctx): ...
"""

USES_NOT = """
class Odd:
    def __getattr__(self, name):
        raise RuntimeError(name)

odd = Odd()
transaction = 1
async def handler(job, ctx):
    return job
"""


@pytest.mark.parametrize(("source", "uses"), [(USES, True), (IN_A_CLASS, True), (USES_NOT, False)])
def test_whether_a_package_may_use_a_transaction_is_read_off_its_code(
    monkeypatch: pytest.MonkeyPatch, source: str, uses: bool
) -> None:
    package, module = ModuleType("tested_package"), ModuleType("tested_package.handlers")
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "tested_package", package)
    monkeypatch.setitem(sys.modules, "tested_package.handlers", module)
    assert transacting([module.__dict__["handler"]]) is uses
