-- Postgres's time, the only clock that decides.
select now()
