-- The classes of errors of dead jobs, in no order; at most `most` of them. Reads one row of each class in each day, by the
-- index on (error_class, ended_at, id), however many jobs there are.
with recursive classes (name, number) as (
    select (select j.error_class from carafe.jobs_dead j where j.error_class > '' order by j.error_class limit 1), 1
    union all
    select (select j.error_class from carafe.jobs_dead j where j.error_class > classes.name order by j.error_class limit 1),
        number + 1
    from classes where name is not null and number < :most::integer
)
select name from classes where name is not null
