use larkauth_storage::AuditEntry;

/// Logs a record. The log holds every record, also when the database refuses it.
pub(crate) fn log(entry: &AuditEntry) {
    tracing::info!(
        target: "larkauth::audit",
        audit_id = %entry.id,
        at = %entry.at,
        actor_kind = entry.actor_kind,
        actor_id = entry.actor_id,
        actor_name = entry.actor_name,
        action = entry.action,
        app_id = entry.app_id,
        person = entry.person,
        session_id = entry.session_id.map(tracing::field::display),
        key_id = entry.key_id.map(tracing::field::display),
        encryption_key = entry.encryption_key,
        address = entry.address,
        request_id = entry.request_id,
        outcome = entry.outcome,
        reason = entry.reason,
        count = (entry.count > 1).then_some(entry.count),
        "audit"
    );
}
