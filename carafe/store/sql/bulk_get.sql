-- One bulk action.
select * from carafe.bulk_actions where id = :id
