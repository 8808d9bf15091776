//! Scopes in words.
//!
//! The names of Lark's scopes have a form: an area, what in it, and often an access at the end (`calendar:calendar:readonly`).
//! The words follow from area and access, so that most scopes have some; of another area only the name is shown.

use super::text::{Text, formatted};

/// Last parts of scopes that permit no change.
const READ_ONLY: [&str; 8] = ["readonly", "read", "list", "get", "view", "search", "query", "download"];

/// Returns what a scope permits, in both languages.
pub(super) fn words(scope: &str) -> Option<Text> {
    let noun = |nouns: &[(&str, Noun)], name: &str| {
        nouns.iter().find(|(known, _)| *known == name).map(|(_, noun)| *noun)
    };
    let (area, _) = scope.split_once(':')?;
    let (zh, en) = noun(&EXACT, scope).or_else(|| noun(&AREAS, area))?;
    let reads = scope.rsplit([':', '.']).next().is_some_and(|last| READ_ONLY.contains(&last));
    Some(if reads {
        formatted(format!("查看{zh}"), format!("See {en}"))
    } else {
        formatted(format!("查看和修改{zh}"), format!("See and change {en}"))
    })
}

/// A noun in both languages.
type Noun = (&'static str, &'static str);

/// Scopes that their area describes badly.
const EXACT: [(&str, Noun); 5] = [
    ("contact:user.base:readonly", ("你的姓名和头像", "your name and picture")),
    ("contact:user.email:readonly", ("你的邮箱地址", "your email address")),
    ("contact:user.phone:readonly", ("你的手机号", "your phone number")),
    ("contact:user.employee_id:readonly", ("你的用户 ID", "your user ID")),
    ("auth:user.id:read", ("你的用户 ID", "your user ID")),
];

/// The areas of scopes.
const AREAS: [(&str, Noun); 29] = [
    ("approval", ("审批", "approvals")),
    ("apaas", ("应用引擎数据", "aPaaS data")),
    ("attendance", ("考勤数据", "attendance records")),
    ("base", ("多维表格", "Base tables")),
    ("bitable", ("多维表格", "Base tables")),
    ("board", ("画板", "whiteboards")),
    ("calendar", ("你的日历", "your calendars")),
    ("contact", ("通讯录", "the company directory")),
    ("corehr", ("人事数据", "HR data")),
    ("directory", ("通讯录", "the company directory")),
    ("doc", ("云文档", "documents")),
    ("docs", ("云文档", "documents")),
    ("docx", ("云文档", "documents")),
    ("drive", ("云空间文件", "files in Drive")),
    ("hire", ("招聘数据", "recruiting data")),
    ("im", ("聊天消息", "chat messages")),
    ("mail", ("邮件", "mail")),
    ("minutes", ("妙记", "meeting minutes")),
    ("okr", ("OKR", "OKRs")),
    ("payroll", ("薪酬数据", "payroll data")),
    ("performance", ("绩效数据", "performance reviews")),
    ("report", ("汇报", "reports")),
    ("search", ("你可见的内容", "what you can search")),
    ("sheets", ("电子表格", "spreadsheets")),
    ("slides", ("幻灯片", "slides")),
    ("space", ("云空间文件", "files in Drive")),
    ("task", ("任务", "tasks")),
    ("vc", ("视频会议", "video meetings")),
    ("wiki", ("知识库", "wiki pages")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_area_and_access() {
        for (scope, zh, en) in [
            ("calendar:calendar:readonly", "查看你的日历", "See your calendars"),
            ("calendar:calendar.event:create", "查看和修改你的日历", "See and change your calendars"),
            ("base:record:read", "查看多维表格", "See Base tables"),
            ("im:message.group_msg:get_as_user", "查看和修改聊天消息", "See and change chat messages"),
            ("contact:user.email:readonly", "查看你的邮箱地址", "See your email address"),
            ("contact:user.department:readonly", "查看通讯录", "See the company directory"),
        ] {
            let words = words(scope).unwrap_or_else(|| panic!("{scope} has no words"));
            assert_eq!((&*words.zh_cn, &*words.en_us), (zh, en), "{scope}");
        }
        for unknown in ["", "calendar", "quantum:entangle:read", ":calendar:read", "offline_access"] {
            assert_eq!(words(unknown), None, "{unknown}");
        }
    }
}
