//! How much there is of everything: the catalogue, the grants and the rules that the measured calls meet, as Outrider
//! reads them and as OPA does.
#![expect(
    clippy::indexing_slicing,
    reason = "members of JSON objects, made by writing them"
)]

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use outrider_policy::{
    ServiceKind,
    data::{Data, Document, KnownTool},
};
use serde_json::{Value, json};

use crate::message;

/// The service of the tool that is called, and the path of its endpoint.
pub(crate) const SERVICE: &str = "mcp";
/// How many tools one service has at most: a lock file has a bound.
const OFFERED: usize = 2000;
/// The agent that calls.
pub(crate) const AGENT: &str = "spiffe://example.org/agent/test";
/// How many grants one agent has at most.
const HELD: usize = 50;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Tools of the catalogue, each with a schema of its own.
    pub(crate) tools: usize,
    /// Grants of one tool each, up to 50 for the agent that calls and for each of the others.
    pub(crate) grants: usize,
    /// Rules of the user, none of which says anything about the call that is measured.
    pub(crate) rules: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            tools: 1000,
            grants: 1000,
            rules: 0,
        }
    }
}

impl Shape {
    /// The services by name, each with the definitions of its tools.
    pub(crate) fn catalogue(self) -> BTreeMap<String, BTreeMap<String, Value>> {
        let mut services = BTreeMap::<_, BTreeMap<_, _>>::new();
        for number in 0..self.tools {
            let mut schema = message::schema();
            schema["title"] = json!(format!("Tool {number}"));
            let tools = services.entry(service(number)).or_default();
            tools.insert(tool(number), json!({"inputSchema": schema}));
        }
        services
    }

    /// Agents, intents and grants.
    pub(crate) fn document(self) -> Value {
        let held = self.tools.min(HELD);
        let agents = (0..self.grants.div_ceil(held).max(1)).map(|number| {
            json!({
                "id": agent(number), "owner": "owner@example.org", "purpose": "Is measured",
                "roles": ["support"], "expires": "2100-01-01T00:00:00Z", "state": "active",
            })
        });
        let grant = |agent: String, tool: String| {
            json!({
                "agent": agent, "tools": [tool],
                "intents": ["work"], "max_classification": "internal",
            })
        };
        let grants = (0..self.grants)
            .map(|number| grant(agent(number / held), id(number % self.tools)))
            .chain([grant(agent(0), "far/CONNECT".to_owned())]);
        json!({
            "agents": agents.collect::<Vec<_>>(),
            "intents": [{
                "id": "work", "owner": "owner@example.org", "tools": ["*/*"],
                "max_classification": "restricted",
            }],
            "grants": grants.collect::<Vec<_>>(),
        })
    }

    /// The user's rules.
    pub(crate) fn rules(self) -> Option<String> {
        let rule = |number: usize| {
            format!(
                "deny contains {{\"reason\": \"closed_{number}\", \"message\": \"is closed\"}} if {{\n\
                 \tinput.tool.operation == \"closed_{number}\"\n\
                 \tinput.task.confidence < 0.9\n}}\n"
            )
        };
        let rules: Vec<_> = (0..self.rules).map(rule).collect();
        (!rules.is_empty()).then(|| format!("package outrider.authz\n\n{}", rules.join("\n")))
    }

    /// The data as Outrider indexes it.
    pub(crate) fn data(self) -> Result<Data> {
        self.data_of(self.document())
    }

    /// Other data over the same catalogue.
    pub(crate) fn data_of(self, document: Value) -> Result<Data> {
        let document: Document = serde_json::from_value(document)?;
        let known = |number| KnownTool {
            id: id(number),
            kind: ServiceKind::Tool,
        };
        let tools: Vec<_> = (0..self.tools).map(known).collect();
        Data::build(vec![("data.json".to_owned(), document)], &tools)
            .map_err(|problems| anyhow!("the data of the comparison: {problems:?}"))
    }

    /// The documents under `data` for OPA: the same index, and what the adapter looks up.
    pub(crate) fn documents(self, token: &str) -> Result<Value> {
        let text = self.data()?.value().to_json_str().map_err(|e| anyhow!(e))?;
        let mut documents: Value = serde_json::from_str(&text)?;
        let tools: BTreeMap<_, _> = (0..self.tools)
            .map(|number| (id(number), facts(number)))
            .collect();
        let expires_ns = 4_102_444_800_000_000_000_i64;
        let task = json!({
            "id": "t1", "source": "token", "subject": "uid:0", "intent": "work", "tools": ["*/*"],
            "max_classification": "restricted", "budget": {"calls": u64::MAX, "used": 0},
            "expires": "2100-01-01T00:00:00Z", "expires_ns": expires_ns, "state": "active",
            "confidence": 1, "parent": "", "high_water": "public",
        });
        let agent = json!({
            "id": AGENT, "attested_by": "static", "environment": "test", "owner": "owner@example.org",
            "purpose": "Is measured", "roles": ["support"], "expires": "2100-01-01T00:00:00Z",
            "state": "active",
        });
        documents["bench"] = json!({"agent": agent, "tasks": {token: task}, "tools": tools});
        Ok(documents)
    }
}

fn facts(number: usize) -> Value {
    json!({
        "id": id(number), "service": service(number), "operation": tool(number), "kind": "tool",
        "owner": "", "version": "", "schema_digest": "", "classification": "internal", "labels": [],
        "read_only": false, "destructive": true, "idempotent": false, "open_world": true,
    })
}

fn id(number: usize) -> String {
    format!("{}/{}", service(number), tool(number))
}

fn service(number: usize) -> String {
    match number / OFFERED {
        0 => SERVICE.to_owned(),
        other => format!("{SERVICE}-{other}"),
    }
}

fn tool(number: usize) -> String {
    if number == 0 {
        message::TOOL.to_owned()
    } else {
        format!("tool_{number}")
    }
}

fn agent(number: usize) -> String {
    if number == 0 {
        AGENT.to_owned()
    } else {
        format!("spiffe://example.org/agent/other-{number}")
    }
}
