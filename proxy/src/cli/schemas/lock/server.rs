//! What a running server lists of itself, asked in the words of its revision.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};
use outrider_schemas::lock::{Listed, Note};
use serde_json::{Map, Value};

use crate::{
    cli::schemas::client::{Client, NotInitialized, Reply},
    protocol::mcp::{LEGACY, MODERN},
};

/// Pages of one list.
const MOST_PAGES: usize = 64;

/// Entries of one list.
pub(super) const MOST_ENTRIES: usize = 10_000;

/// JSON-RPC: method not found.
const NOT_FOUND: i64 = -32601;

/// Errors that only a server of the current revision knows: `HeaderMismatch` and
/// `MissingRequiredClientCapability` (MCP 2026-07-28).
const MODERN_ERRORS: [i64; 2] = [-32020, -32021];

/// What servers of MCP 2024-11-05 need.
const OLD: &str = "if it is a server of 2024-11-05 (HTTP+SSE), which has no endpoint that takes `initialize`, it must be \
                   updated to streamable HTTP; if it has both, name the URL of the latter, often `/mcp`";

/// How a server is spoken to, and what it says it can do.
struct Greeted {
    revision: &'static str,
    /// Null when it did not say.
    capabilities: Value,
}

/// A list and the member of its result.
#[derive(Clone, Copy)]
struct List {
    method: &'static str,
    member: &'static str,
    what: &'static str,
}

const TOOLS: List = List {
    method: "tools/list",
    member: "tools",
    what: "tools",
};

const RESOURCES: List = List {
    method: "resources/list",
    member: "resources",
    what: "resources",
};

const TEMPLATES: List = List {
    method: "resources/templates/list",
    member: "resourceTemplates",
    what: "templates of resources",
};

const PROMPTS: List = List {
    method: "prompts/list",
    member: "prompts",
    what: "prompts",
};

/// Everything that the server lists, and what the operator should know of it.
///
/// # Errors
/// When the server cannot be asked, speaks no revision that we speak, or breaks a bound.
pub(super) async fn listed(client: &Client) -> anyhow::Result<(Listed, Vec<Note>)> {
    let outcome = async {
        let greeted = greet(client).await?;
        let listed = lists(client, &greeted).await?;
        anyhow::Ok((listed, notes(&greeted)))
    };
    let outcome = outcome.await;
    let ended = client.end().await;
    let (listed, mut notes) = outcome?;
    if let Err(why) = ended {
        notes.push(Note::whole(format!(
            "the session could not be ended: {why}"
        )));
    }
    Ok((listed, notes))
}

async fn greet(client: &Client) -> anyhow::Result<Greeted> {
    let reply = client.ask("server/discover", Map::new()).await?;
    if modern(&reply)? {
        let capabilities = reply.message.pointer("/result/capabilities");
        return Ok(Greeted {
            revision: MODERN,
            capabilities: capabilities.cloned().unwrap_or_default(),
        });
    }
    let (revision, capabilities) = client.initialize().await.map_err(no_server)?;
    Ok(Greeted {
        revision,
        capabilities,
    })
}

/// Whether the answer to `server/discover` is that of a server of the current revision, and not
/// of one with a handshake.
fn modern(reply: &Reply) -> anyhow::Result<bool> {
    permitted(reply)?;
    let status = reply.status.as_u16();
    if status == 429 || reply.status.is_server_error() {
        bail!("the server cannot answer `server/discover` now (HTTP status {status})");
    }
    if let Some(code) = reply.code().filter(|code| MODERN_ERRORS.contains(code)) {
        bail!("the server refuses `server/discover` (HTTP status {status}, code {code})");
    }
    let versions = reply.message.pointer("/result/supportedVersions");
    let versions = versions.or_else(|| reply.message.pointer("/error/data/supported"));
    let Some(versions) = versions.and_then(Value::as_array) else {
        return Ok(false);
    };
    let speaks = |revision: &str| versions.iter().any(|version| version == revision);
    ensure!(
        speaks(MODERN) || LEGACY.into_iter().any(speaks),
        "the server speaks none of MCP {MODERN}, {}",
        LEGACY.join(", ")
    );
    Ok(speaks(MODERN))
}

fn permitted(reply: &Reply) -> anyhow::Result<()> {
    ensure!(
        !matches!(reply.status.as_u16(), 401 | 403),
        "the server refuses us (HTTP status {}): give it a credential with `--header`",
        reply.status.as_u16()
    );
    Ok(())
}

/// Says why a server that is not of the current revision is none of an older one either.
fn no_server(why: NotInitialized) -> anyhow::Error {
    let old = match &why {
        NotInitialized::Failed(_) => false,
        NotInitialized::Revision { .. } => true,
        NotInitialized::Refused(reply) => {
            if let Err(refused) = permitted(reply) {
                return refused;
            }
            matches!(reply.status.as_u16(), 400 | 404 | 405)
        }
    };
    let hint = if old {
        format!("; {OLD}")
    } else {
        String::new()
    };
    match why {
        NotInitialized::Failed(why) => why,
        NotInitialized::Refused(_) => {
            anyhow::anyhow!("this is no MCP server of revision {MODERN}, and {why}{hint}")
        }
        NotInitialized::Revision { .. } => anyhow::anyhow!("the server is too old: {why}{hint}"),
    }
}

impl Greeted {
    fn has(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }

    fn says(&self, pointer: &str) -> bool {
        self.capabilities.pointer(pointer) == Some(&Value::Bool(true))
    }

    /// The methods that are calls of their own and that the server has.
    fn methods(&self) -> Vec<&'static str> {
        let subscribe = self.says("/resources/subscribe");
        let changes = ["tools", "resources", "prompts"]
            .into_iter()
            .any(|list| self.says(&format!("/{list}/listChanged")));
        let modern = self.revision == MODERN;
        [
            ("completion/complete", self.has("completions")),
            ("resources/subscribe", subscribe && !modern),
            ("subscriptions/listen", (subscribe || changes) && modern),
        ]
        .into_iter()
        .filter_map(|(method, has)| has.then_some(method))
        .collect()
    }
}

async fn lists(client: &Client, greeted: &Greeted) -> anyhow::Result<Listed> {
    let mut listed = Listed {
        methods: greeted.methods(),
        ..Listed::default()
    };
    // A server that says nothing of itself is asked for what most have.
    if greeted.has("tools") || greeted.capabilities.is_null() {
        listed.tools = pages(client, TOOLS).await?;
    }
    if greeted.has("resources") {
        listed.resources = pages(client, RESOURCES).await?;
        listed.templates = pages(client, TEMPLATES).await?;
    }
    if greeted.has("prompts") {
        listed.prompts = pages(client, PROMPTS).await?;
    }
    Ok(listed)
}

fn notes(greeted: &Greeted) -> Vec<Note> {
    let mut notes = vec![Note::whole(format!(
        "the server speaks MCP {}",
        greeted.revision
    ))];
    if greeted.says("/resources/listChanged") {
        notes.push(Note::whole(
            "the server's list of resources changes while it runs: what comes later is refused unless a URI template \
             in `resources` stands for it",
        ));
    }
    notes
}

/// All entries of one list.
async fn pages(client: &Client, list: List) -> anyhow::Result<Vec<Value>> {
    let (mut entries, mut cursors) = (Vec::new(), HashSet::new());
    let mut params = Map::new();
    for _ in 0..MOST_PAGES {
        let reply = client.ask(list.method, params.clone()).await?;
        if list.method == TEMPLATES.method && reply.code() == Some(NOT_FOUND) {
            // Templates have no capability of their own: a server with resources may have none.
            return Ok(entries);
        }
        let (page, next) = page(&reply, list)?;
        entries.extend_from_slice(page);
        ensure!(
            entries.len() <= MOST_ENTRIES,
            "the server lists more than {MOST_ENTRIES} {}",
            list.what
        );
        let Some(next) = next else {
            return Ok(entries);
        };
        ensure!(
            cursors.insert(next.to_owned()),
            "the server gave one cursor twice: its list of {} has no end",
            list.what
        );
        params.insert("cursor".into(), next.into());
    }
    bail!(
        "the server lists its {} on more than {MOST_PAGES} pages",
        list.what
    )
}

/// One page of a list, and the cursor of the next.
fn page(reply: &Reply, list: List) -> anyhow::Result<(&[Value], Option<&str>)> {
    let (method, status) = (list.method, reply.status.as_u16());
    if let Some(code) = reply.code() {
        bail!("the server refuses `{method}` (HTTP status {status}, code {code})");
    }
    let result = reply
        .result()
        .with_context(|| format!("no answer to `{method}` (HTTP status {status})"))?;
    let entries = result.get(list.member).and_then(Value::as_array);
    let entries =
        entries.with_context(|| format!("the answer to `{method}` is no list of {}", list.what))?;
    let next = match result.get("nextCursor") {
        None | Some(Value::Null) => None,
        Some(Value::String(next)) => Some(next.as_str()),
        Some(_) => bail!("the `nextCursor` of `{method}` is no string"),
    };
    Ok((entries, next))
}
