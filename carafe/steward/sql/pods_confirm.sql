-- Nothing has changed with these pods: what is known of them is as good as new.
update carafe.pods set confirmed_at = now() where uid = any (:present::text[]) and gone_at is null
