"""What workers do for each job. Only workers import this module.

A handler may run more than once: its worker can be killed after the effect, before the job's end is written. Here the effect
and the end are one commit, so each takes place exactly once.
"""

from sqlalchemy.dialects.postgresql import insert

from bank.jobs import Deposit, Transfer
from bank.tables import Account
from carafe import Context, Discard, SyncContext, handler


@handler(Transfer)
async def transfer(job: Transfer, ctx: Context) -> dict[str, int]:
    """Change both accounts and end the job, or do none of it."""
    async with ctx.transaction() as session:  # an AsyncSession
        balances: dict[str, int] = {}
        for name, cents in sorted([(job.source, -job.cents), (job.target, job.cents)]):  # one order: no deadlocks
            account = await session.get_one(Account, name, with_for_update=True)
            account.cents += cents
            if account.cents < 0:
                raise Discard(f"{name} has {account.cents - cents} cents")  # takes back what was written
            balances[name] = account.cents
        ctx.result = balances
    return balances


@handler(Deposit)
def deposit(job: Deposit, ctx: SyncContext) -> int:
    """The same in a plain function, which runs in a thread."""
    with ctx.transaction() as session:  # a Session
        opened = insert(Account).values(name=job.account, cents=job.cents)
        added = {Account.cents: Account.cents + job.cents}
        statement = opened.on_conflict_do_update(index_elements=[Account.name], set_=added).returning(Account.cents)
        ctx.result = balance = session.scalars(statement).one()
    return balance
