//! What kind of push a body is, as far as a program needs to know that only passes it on.

use crate::event::CARD_ACTION;

/// The type of a callback that asks for the preview of a link.
pub const URL_PREVIEW: &str = "url.preview.get";

/// Label of an event type that is not listed.
pub const OTHER: &str = "other";

/// Types that bots commonly subscribe to.
const COMMON: &[&str] = &[
    CARD_ACTION,
    URL_PREVIEW,
    "application.bot.menu_v6",
    "approval_instance",
    "approval_task",
    "calendar.calendar.event.changed_v4",
    "contact.department.created_v3",
    "contact.department.deleted_v3",
    "contact.department.updated_v3",
    "contact.scope.updated_v3",
    "contact.user.created_v3",
    "contact.user.deleted_v3",
    "contact.user.updated_v3",
    "drive.file.bitable_record_changed_v1",
    "drive.file.edit_v1",
    "im.chat.access_event.bot_p2p_chat_entered_v1",
    "im.chat.disbanded_v1",
    "im.chat.member.bot.added_v1",
    "im.chat.member.bot.deleted_v1",
    "im.chat.member.user.added_v1",
    "im.chat.member.user.deleted_v1",
    "im.chat.member.user.withdrawn_v1",
    "im.chat.updated_v1",
    "im.message.message_read_v1",
    "im.message.reaction.created_v1",
    "im.message.reaction.deleted_v1",
    "im.message.receive_v1",
    "im.message.recalled_v1",
    "message",
    "vc.meeting.meeting_ended_v1",
    "vc.meeting.meeting_started_v1",
];

/// Returns the event type as a label: itself when it is a common one, else [`OTHER`]. The number of labels is bounded.
#[must_use]
pub fn label(event_type: &str) -> &'static str {
    COMMON.iter().copied().find(|known| *known == event_type).unwrap_or(OTHER)
}

/// Returns whether Lark shows the answer to a person. Lark takes any other push as done once it is acknowledged.
#[must_use]
pub fn wants_answer(event_type: &str) -> bool {
    [CARD_ACTION, URL_PREVIEW].contains(&event_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_of_any_type_is_one_of_a_fixed_list() {
        assert_eq!(label("im.message.receive_v1"), "im.message.receive_v1");
        assert_eq!(label("a.stranger"), OTHER);
    }
}
