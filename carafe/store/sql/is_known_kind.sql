-- Whether a kind is known here: from workers, from the statistics, from the newest `limit` live jobs.
select exists (select from carafe.workers where :kind = any (kinds))
    or exists (select from carafe.statistics where width = 600 and kind = cast(:kind as text))
    or exists (
        select from (select kind from carafe.jobs order by id desc limit :limit) as newest where kind = cast(:kind as text)
    ) as known
