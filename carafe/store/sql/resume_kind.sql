-- Resumes a kind. No row: it was not paused.
delete from carafe.paused_kinds where kind = :kind returning kind
