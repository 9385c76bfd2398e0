-- Marks these pods as still up to date, since nothing about them has changed.
update carafe.pods set confirmed_at = now() where uid = any (:present::text[]) and gone_at is null
