-- The live jobs that hold these unique keys now.
select id, kind, state, unique_key from carafe.jobs
where unique_key is not null
    and unique_key = any(array(select value from json_array_elements_text(cast(:keys as json))))
