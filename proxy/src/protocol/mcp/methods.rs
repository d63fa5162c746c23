//! The methods of MCP that are served, on one page: in which era, in which direction, and what
//! each asks for.

use super::revision::Era;
use crate::{
    protocol::{Listed, rpc::invalid},
    rejection::{Rejection, Unknown},
};

/// One method.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: &'static str,
    eras: Eras,
    pub(super) asks: Asks,
    /// The member of `params` that `Mcp-Name` mirrors.
    pub(super) named: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Eras {
    Both,
    Modern,
    Legacy,
}

/// What a method asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// A session.
    Opening,
    /// Nothing that anybody decides about.
    Housekeeping,
    /// What could be used.
    List(Listed),
    /// A tool.
    Tool,
    /// A resource, by its URI.
    Resource,
    /// A prompt, by its name.
    Prompt,
    /// What the method's own name stands for in the catalogue.
    Itself,
    /// A stream of changes; stands for itself in the catalogue too.
    Listening,
    /// Work that a call left going on.
    Again,
    /// Nothing: it is a notification.
    Notes,
}

const fn method(name: &'static str, eras: Eras, asks: Asks, named: &'static str) -> Method {
    Method {
        name,
        eras,
        asks,
        named: if named.is_empty() { None } else { Some(named) },
    }
}

/// Every method that is served; any other is refused.
static METHODS: &[Method] = &[
    method("initialize", Eras::Legacy, Asks::Opening, ""),
    method("server/discover", Eras::Modern, Asks::Housekeeping, ""),
    method("ping", Eras::Both, Asks::Housekeeping, ""),
    method("logging/setLevel", Eras::Legacy, Asks::Housekeeping, ""),
    method(
        "resources/unsubscribe",
        Eras::Legacy,
        Asks::Housekeeping,
        "",
    ),
    method("tools/list", Eras::Both, Asks::List(Listed::Tools), ""),
    method("tools/call", Eras::Both, Asks::Tool, "name"),
    method(
        "resources/list",
        Eras::Both,
        Asks::List(Listed::Resources),
        "",
    ),
    method(
        "resources/templates/list",
        Eras::Both,
        Asks::List(Listed::Templates),
        "",
    ),
    method("resources/read", Eras::Both, Asks::Resource, "uri"),
    method("resources/subscribe", Eras::Legacy, Asks::Itself, ""),
    method("prompts/list", Eras::Both, Asks::List(Listed::Prompts), ""),
    method("prompts/get", Eras::Both, Asks::Prompt, "name"),
    method("completion/complete", Eras::Both, Asks::Itself, ""),
    method("subscriptions/listen", Eras::Modern, Asks::Listening, ""),
    method("tasks/get", Eras::Both, Asks::Again, "taskId"),
    method("tasks/update", Eras::Modern, Asks::Again, "taskId"),
    method("tasks/result", Eras::Legacy, Asks::Again, "taskId"),
    method("tasks/cancel", Eras::Both, Asks::Again, "taskId"),
    method("notifications/initialized", Eras::Both, Asks::Notes, ""),
    method("notifications/cancelled", Eras::Both, Asks::Notes, ""),
    method("notifications/progress", Eras::Both, Asks::Notes, ""),
    method(
        "notifications/roots/list_changed",
        Eras::Both,
        Asks::Notes,
        "",
    ),
];

impl Method {
    /// The method of that name in an era, in its one direction.
    pub(super) fn served(
        name: &str,
        era: Era,
        is_request: bool,
    ) -> Result<&'static Self, Rejection> {
        let spoken = |method: &&Self| {
            method.name == name
                && match method.eras {
                    Eras::Both => true,
                    Eras::Modern => era == Era::Modern,
                    Eras::Legacy => era == Era::Legacy,
                }
        };
        let method = METHODS
            .iter()
            .find(spoken)
            .ok_or(Rejection::ToolUnknown(Unknown::Method))?;
        if is_request == (method.asks == Asks::Notes) {
            return Err(invalid("requests carry an `id`, notifications do not"));
        }
        Ok(method)
    }
}
