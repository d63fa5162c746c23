//! Policies are compiled in a child first.
//!
//! The engine aborts its process on some policies and takes exponential time on others. So the
//! child, which has limits of its own, tries first; what it survives is compiled here too.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use outrider_policy::{
    Bounds, Policy, Problem, Source,
    data::{Data, Document, KnownTool},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Seconds of processor time for the child.
const CPU_SECONDS: u64 = 20;
/// Address space of the child.
const MEMORY: u64 = 4 << 30;
/// Until the child is ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// The hidden command of the child.
pub const COMMAND: &str = "policy-compile";

/// Everything a policy is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ingredients {
    /// The user's rules.
    pub sources: Vec<Source>,
    /// The user's data.
    pub documents: Vec<(String, Document)>,
    /// Every tool of the catalogue.
    pub tools: Vec<KnownTool>,
    /// Bounds of one evaluation.
    pub timeout: Duration,
}

/// Instructions of one evaluation: far above what the shipped library takes, far below a second.
const INSTRUCTIONS: usize = 250_000;

impl Ingredients {
    /// Compiles, here.
    ///
    /// # Errors
    /// All problems of data and rules.
    pub fn compile(&self) -> Result<(Data, Policy), Vec<Problem>> {
        let data = Data::build(self.documents.clone(), &self.tools)?;
        let bounds = Bounds {
            timeout: self.timeout,
            instructions: INSTRUCTIONS,
        };
        let policy = Policy::compile(&self.sources, &data, bounds)?;
        Ok((data, policy))
    }
}

/// Where policies are compiled first.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In a child of this program.
    Child(PathBuf),
    /// Nowhere: for rules that are our own.
    Here,
}

impl Compiler {
    /// This program's own child.
    pub fn of_this_program() -> Self {
        std::env::current_exe().map_or(Self::Here, Self::Child)
    }

    /// Compiles in the child, then here.
    ///
    /// # Errors
    /// All problems; that the child did not survive is one.
    pub fn compile(&self, ingredients: &Ingredients) -> Result<(Data, Policy), Vec<Problem>> {
        if let Self::Child(program) = self
            && !ingredients.sources.is_empty()
        {
            let problems =
                try_out(program, ingredients).map_err(|why| vec![whole(ingredients, why)])?;
            if !problems.is_empty() {
                return Err(problems);
            }
        }
        ingredients.compile()
    }
}

fn whole(ingredients: &Ingredients, message: String) -> Problem {
    let file = ingredients
        .sources
        .first()
        .map_or("policy", |source| &source.name)
        .to_owned();
    Problem {
        file,
        line: 0,
        column: 0,
        message,
    }
}

fn try_out(program: &PathBuf, ingredients: &Ingredients) -> Result<Vec<Problem>, String> {
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the policy compiler cannot be started: {error}"))?;
    let text = serde_json::to_vec(ingredients).map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that died early is told apart below, by how it ended.
        stdin.write_all(&text).ok();
    }
    let survived = wait(&mut child);
    let mut answer = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut answer).ok();
    }
    if survived {
        serde_json::from_str(&answer).map_err(|_| crashed())
    } else {
        Err(crashed())
    }
}

fn crashed() -> String {
    "these rules exhaust the policy compiler (time, memory or stack): simplify the deepest nesting or the longest chain of rules".into()
}

/// Whether the child ended by itself, and well.
fn wait(child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => {
                child.kill().ok();
                child.wait().ok();
                return false;
            }
        }
    }
}

/// What the child does: limits itself, reads, compiles, tells the problems as JSON.
///
/// # Errors
/// When it cannot limit itself, or is asked for something else.
pub fn child(input: &[u8]) -> anyhow::Result<String> {
    let limit = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Cpu, limit(CPU_SECONDS))?;
    setrlimit(Resource::As, limit(MEMORY))?;
    setrlimit(Resource::Core, limit(0))?;
    let ingredients: Ingredients = serde_json::from_slice(input)?;
    let problems = ingredients.compile().err().unwrap_or_default();
    Ok(serde_json::to_string(&problems)?)
}
