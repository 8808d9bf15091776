-- The encryption key that was retired, or with which all values were sealed again.
alter table audit_log add column encryption_key text;
