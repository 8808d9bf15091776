use crate::spelled_enum::spelled_enum;

spelled_enum! {
    /// What an audit record is about.
    AuditAction {
        /// A session was created, which invites a person.
        SessionCreate = "session.create",
        /// A session ended with a stored token, because its person consented.
        SessionComplete = "session.complete",
        /// A session ended because its person declined.
        SessionReject = "session.reject",
        /// A session ended because it was used after its time.
        SessionExpire = "session.expire",
        /// A session ended with a failure.
        SessionFail = "session.fail",
        /// Sessions were listed.
        SessionList = "session.list",
        /// The address of a consent page was read.
        SessionConsentPage = "session.consent_page",
        /// A token was handed out.
        TokenServe = "token.serve",
        /// A token was refreshed for a caller, and handed out.
        TokenRefresh = "token.refresh",
        /// A stored token was read at the command line.
        TokenShow = "token.show",
        /// The state of a stored token was read, without its secrets.
        TokenStatus = "token.status",
        /// The states of the tokens of an application were listed, without their secrets.
        TokenList = "token.list",
        /// The people who lose access were listed.
        TokenHorizon = "token.horizon",
        /// A token was revoked.
        TokenRevoke = "token.revoke",
        /// The profile of a person was read.
        ProfileShow = "profile.show",
        /// Everything that is stored about a person was erased.
        PersonErase = "person.erase",
        /// The encryption keys in use were listed.
        EncryptionKeyList = "encryption_key.list",
        /// The re-encryption of all stored values with the first key began.
        EncryptionKeyRotate = "encryption_key.rotate",
        /// An encryption key was retired: no stored value needs it.
        EncryptionKeyRetire = "encryption_key.retire",
        /// A copy of the database began.
        DatabaseBackup = "database.backup",
        /// The token of a person was suspended, because Lark refuses the person.
        PersonSuspend = "person.suspend",
        /// The suspension of a person's token ended, because Lark accepts the person again.
        PersonRestore = "person.restore",
        /// An API key was created.
        KeyCreate = "api_key.create",
        /// An API key got a successor.
        KeyRotate = "api_key.rotate",
        /// An API key was revoked.
        KeyRevoke = "api_key.revoke",
        /// API keys were listed.
        KeyList = "api_key.list",
        /// An application was registered or changed.
        AppRegister = "app.register",
        /// The application of the settings was registered at the start of a process.
        AppBootstrap = "app.bootstrap",
        /// An application was enabled.
        AppEnable = "app.enable",
        /// An application was disabled.
        AppDisable = "app.disable",
        /// An application was read with its secrets.
        AppShow = "app.show",
        /// Applications were listed.
        AppList = "app.list",
        /// Dead letters were listed.
        DeadLetterList = "dead_letter.list",
        /// A dead letter was returned to its queue.
        DeadLetterRequeue = "dead_letter.requeue",
        /// A dead letter was dropped.
        DeadLetterDrop = "dead_letter.drop",
        /// Audit records were listed.
        AuditList = "audit.list",
        /// An API key logged in to the operator console.
        ConsoleLogin = "console.login",
        /// A login to the operator console was ended.
        ConsoleLogout = "console.logout",
        /// A request was refused because its API key lacks the scope.
        RequestDeny = "request.deny",
    }
}

spelled_enum! {
    /// What became of an act.
    AuditOutcome {
        /// It was done.
        Ok = "ok",
        /// It was refused: a rule, or nothing to do it to.
        Refused = "refused",
        /// It could not be done: a part of the service failed.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_spelling_is_subject_and_verb() {
        for action in AuditAction::ALL {
            let (subject, verb) = action.as_str().split_once('.').unwrap();
            let is_word =
                |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(is_word(subject) && is_word(verb), "{action}");
            assert_eq!(action.as_str().parse::<AuditAction>().unwrap(), *action);
        }
    }
}
