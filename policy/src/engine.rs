//! The compiled policy: regorus' VM, with its precautions.
//!
//! The VM is fast but does not keep to Rego everywhere, so nothing reaches it that [`lint`](crate::lint) has not let
//! through, and nothing it answers but the exact shape is believed (see [`read`](crate::read)).

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::program::Program;
use regorus::rvm::{RegoVM, vm::VmError};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use crate::data::Data;
use crate::decision::{Decision, Verdict};
use crate::input::{Input, Phase};
use crate::lint::{self, Findings};
use crate::problem::{Problem, Source};
use crate::value::{Shape, member, shared};
use crate::{digest, library, read, usual};

/// How much one evaluation may take. Built-ins are not interrupted; unbounded ones are refused at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Time of the evaluating thread; time in which the machine ran something else does not count.
    pub timeout: Duration,
    /// Instructions of the VM.
    pub instructions: usize,
}

impl Default for Bounds {
    /// 5 ms and 100,000 instructions.
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(5),
            instructions: 100_000,
        }
    }
}

/// A compiled policy with its data; a clone is a few counters. `decide` may be called from any thread.
#[derive(Debug, Clone)]
pub struct Policy {
    program: Arc<Program>,
    findings: Arc<Findings>,
    data: Data,
    /// What the VM sees of it.
    base: Value,
    exceptions: Option<Value>,
    rules: Arc<str>,
    revision: Arc<str>,
    bounds: Bounds,
}

/// What the VM could not do.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the policy took longer than its time-out")]
    Time,
    #[error("the policy took more instructions than it may")]
    Instructions,
    #[error("the policy failed: {0}")]
    Other(&'static str),
}

impl Policy {
    /// Compiles the shipped library with the user's rules.
    ///
    /// # Errors
    ///
    /// All problems of the rules, each with its line and what to write instead.
    pub fn compile(user: &[Source], data: &Data, bounds: Bounds) -> Result<Self, Vec<Problem>> {
        let findings = lint::check(user)?;
        let mut sources = library::sources(findings.allow_default);
        let rules: Arc<str> = rules_digest(sources.iter().chain(user)).into();
        sources.extend_from_slice(&findings.sources);
        let program = program(&sources).map_err(|problem| vec![problem])?;
        let policy = Self {
            program,
            findings: Arc::new(findings),
            data: data.clone(),
            base: Value::Null,
            exceptions: None,
            revision: Arc::clone(&rules),
            rules,
            bounds,
        }
        .with_data(data);
        policy.try_out()?;
        Ok(policy)
    }

    /// The same rules over other data. Nothing is compiled.
    #[must_use]
    pub fn with_data(&self, data: &Data) -> Self {
        let value = data.value();
        let parts = [self.rules.as_bytes(), data.digest().as_bytes()];
        Self {
            exceptions: member(&value, "outrider")
                .and_then(|outrider| member(outrider, "exceptions"))
                .cloned(),
            data: data.clone(),
            base: value,
            revision: digest::hex(&parts).into(),
            ..self.clone()
        }
    }

    /// Names rules (the library's and the user's) and data together: different content, different revision.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// Decides one call. Never fails: an error, a time-out, an undefined or malformed result is a refusal.
    ///
    /// Where no user has written a rule, the usual call needs no evaluation.
    pub fn decide(&self, input: &Input) -> Decision {
        let usual = usual::grant(&self.data, input);
        match usual {
            Some(grant) if self.findings.sources.is_empty() => Decision::granted(grant),
            _ => self.answer(&self.asked(input, usual)),
        }
    }

    fn answer(&self, question: &Value) -> Decision {
        match self.evaluate(question) {
            Ok(result) => read::decision(result, self.exceptions.as_ref()),
            Err(failed) => Decision::failed(&failed.to_string(), Value::Undefined),
        }
    }

    /// Whether the tool could be called with some arguments: shown in a list. Every callable tool is listable.
    ///
    /// A user's `allow` that reads arguments, content, limits or the time is taken to say yes, a `deny` that does is
    /// left out: neither can be asked before there is a call.
    pub fn listable(&self, input: &Input) -> bool {
        let mut input = input.clone();
        input.phase = Phase::List;
        // What a person may approve can be called.
        matches!(
            self.decide(&input).verdict,
            Verdict::Allow | Verdict::Hold(_)
        )
    }

    /// The input as the library reads it: the documented one and an undocumented part that says what was found out
    /// natively. For running the library on another engine.
    pub fn question(&self, input: &Input) -> Value {
        self.asked(input, usual::grant(&self.data, input))
    }

    fn asked(&self, input: &Input, usual: Option<&Arc<str>>) -> Value {
        input.asked(self.internal(input, usual))
    }

    fn evaluate(&self, question: &Value) -> Result<Value, Failed> {
        match self.guarded(question.clone()) {
            Err(Failed::Time) => self.again(question),
            result => result,
        }
    }

    /// Evaluates once more what took too long by the clock on the wall, which goes on while a busy
    /// machine runs something else: it took too long if the thread itself did.
    fn again(&self, question: &Value) -> Result<Value, Failed> {
        for _ in 0..TRIES {
            let started = thread_time();
            match self.guarded(question.clone()) {
                Err(Failed::Time)
                    if thread_time().saturating_sub(started) < self.bounds.timeout => {}
                result => return result,
            }
        }
        Err(Failed::Time)
    }

    fn guarded(&self, question: Value) -> Result<Value, Failed> {
        let evaluated = catch_unwind(AssertUnwindSafe(|| self.run(question)));
        evaluated.unwrap_or(Err(Failed::Other("the engine panicked")))
    }

    fn run(&self, input: Value) -> Result<Value, Failed> {
        // Taken out while it runs: after a panic it is gone and the next call makes another.
        let mut vm = take(&self.program, &self.base)?;
        vm.set_max_instructions(self.bounds.instructions);
        vm.set_execution_timer_config(Some(ExecutionTimerConfig {
            limit: self.bounds.timeout,
            check_interval: CHECK_INTERVAL,
        }));
        vm.set_input(input);
        let result = vm.execute_entry_point_by_index(0);
        vm.set_input(Value::Null);
        put(&self.program, &self.base, vm);
        result.map_err(|error| Failed::from(&error))
    }

    /// What the library reads beside the documented input.
    fn internal(&self, input: &Input, usual: Option<&Arc<str>>) -> Value {
        let spent = input.spent.iter().map(|id| (&**id, Value::from(true)));
        let (allow, deny) = match input.phase {
            Phase::Call => ("evaluate", "evaluate"),
            Phase::List => (
                if self.findings.allow_needs_call {
                    "assume"
                } else {
                    "evaluate"
                },
                if self.findings.deny_needs_call {
                    "ignore"
                } else {
                    "evaluate"
                },
            ),
        };
        let members = [
            Value::from(allow),
            Value::from(
                input.task.within && input.task.tools.cover(&input.tool.id, input.tool.kind),
            ),
            Value::from(deny),
            crate::value::map(spent),
            usual.map_or_else(|| Value::from(""), shared),
            Value::from(input.task.within),
        ];
        INTERNAL.with(|shape| shape.fill(members))
    }

    /// Some faults show only when the VM first runs.
    fn try_out(&self) -> Result<(), Vec<Problem>> {
        let mut vm = RegoVM::new();
        vm.load_program(Arc::clone(&self.program));
        vm.set_data(self.base.clone()).map_err(|_| {
            vec![Problem::in_file(
                "data",
                "the data shadows a rule: put free data under `facts`",
            )]
        })
    }
}

impl From<&VmError> for Failed {
    fn from(error: &VmError) -> Self {
        match error {
            VmError::TimeLimitExceeded { .. } => Self::Time,
            VmError::InstructionLimitExceeded { .. } => Self::Instructions,
            // Its text may hold values of the call.
            _ => Self::Other("the engine reported an error"),
        }
    }
}

thread_local! {
    /// What the library alone reads.
    static INTERNAL: Shape = Shape::new(&["allow", "covered", "deny", "spent", "usual", "within"]);
}

/// How many instructions pass between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = match NonZeroU32::new(1024) {
    Some(interval) => interval,
    None => NonZeroU32::MIN,
};

/// How often an evaluation is begun anew that the machine interrupted.
const TRIES: usize = 8;

/// The processor time that this thread has had.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let whole = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(whole, rest)
}

/// How many VMs a thread keeps: the policy in force, the one before it, and some to spare.
const KEPT: usize = 4;

/// A VM with what it was loaded with.
struct Kept {
    program: Arc<Program>,
    data: Value,
    vm: RegoVM,
}

thread_local! {
    static VMS: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// A VM of this program with this data. Setting data compares it with all the rules, so it is done when the data is
/// another one than before.
fn take(program: &Arc<Program>, data: &Value) -> Result<RegoVM, Failed> {
    let kept = VMS.with_borrow_mut(|vms| {
        let place = vms
            .iter()
            .position(|kept| Arc::ptr_eq(&kept.program, program))?;
        Some(vms.swap_remove(place))
    });
    let mut vm = match kept {
        Some(kept) if same(&kept.data, data) => return Ok(kept.vm),
        Some(kept) => kept.vm,
        None => {
            let mut vm = RegoVM::new();
            vm.load_program(Arc::clone(program));
            vm
        }
    };
    vm.set_data(data.clone())
        .map_err(|_| Failed::Other("the data shadows a rule"))?;
    Ok(vm)
}

/// Whether both are one object, not two that are equal.
fn same(one: &Value, other: &Value) -> bool {
    matches!((one, other), (Value::Object(one), Value::Object(other)) if Arc::ptr_eq(one, other))
}

fn put(program: &Arc<Program>, data: &Value, vm: RegoVM) {
    VMS.with_borrow_mut(|vms| {
        if vms.len() >= KEPT {
            vms.remove(0);
        }
        vms.push(Kept {
            program: Arc::clone(program),
            data: data.clone(),
            vm,
        });
    });
}

fn program(sources: &[Source]) -> Result<Arc<Program>, Problem> {
    let mut engine = Engine::new();
    for source in sources {
        engine
            .add_policy(source.name.clone(), source.text.clone())
            .map_err(|error| lint::engine_problem(&source.name, &error.to_string()))?;
    }
    let entry: Arc<str> = Arc::from(library::ENTRY);
    let compiled = engine
        .compile_with_entrypoint(&entry)
        .map_err(|error| lint::engine_problem("policy", &error.to_string()))?;
    Compiler::compile_from_policy(&compiled, &[library::ENTRY])
        .map_err(|error| lint::engine_problem("policy", &error.to_string()))
}

fn rules_digest<'a>(sources: impl Iterator<Item = &'a Source>) -> String {
    let mut texts: Vec<&[u8]> = sources.map(|source| source.text.as_bytes()).collect();
    // The order in which files are found decides nothing.
    texts.sort_unstable();
    digest::hex(&texts)
}
