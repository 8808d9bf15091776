-- The encryption key that was retired, or with which all values were sealed again.
alter table audit_log add column encryption_key text;
drop trigger audit_log_no_update;
-- The erasure of a person replaces ids by a pseudonym, and changes nothing else.
create trigger audit_log_no_update before update on audit_log
when new.audit_id is not old.audit_id or new.at is not old.at or new.actor_kind is not old.actor_kind
    or new.actor_name is not old.actor_name or new.action is not old.action or new.app_id is not old.app_id
    or new.session_id is not old.session_id or new.key_id is not old.key_id or new.address is not old.address
    or new.request_id is not old.request_id or new.trace_id is not old.trace_id or new.outcome is not old.outcome
    or new.reason is not old.reason or new.count is not old.count or new.encryption_key is not old.encryption_key
    or (new.person is not old.person and coalesce(new.person, '') not like 'erased:%')
    or (new.actor_id is not old.actor_id and (old.actor_kind <> 'person' or new.actor_id not like 'erased:%'))
begin
    select raise(abort, 'audit_log is append-only: UPDATE refused');
end;
