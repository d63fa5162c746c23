//! `outrider net`: the kernel's rules by which an agent's TCP comes to a transparent listener, and
//! nothing else of it goes anywhere.
//!
//! In: whose traffic, and what of it may pass. Out: one table of nftables, replaced as a whole or
//! not at all. Packets that no process sends (resets, neighbour discovery) are not judged.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};

use super::{DEFAULT, read};
use crate::listen::{ListenAddress, Mode};

/// The only table that is touched.
const TABLE: &str = "inet outrider";

/// Redirect an agent's TCP to a transparent listener, and refuse what else it sends
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs nft (package nftables) and CAP_NET_ADMIN. One table, `inet outrider`, is replaced as a \
whole; `remove` deletes it and nothing else."
)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Put the rules in force, in place of those that were
    Apply(Apply),
    /// Show the rules in force
    Show {
        /// Print JSON, as nft does
        #[arg(long)]
        json: bool,
    },
    /// Take the rules out of force
    Remove,
}

#[derive(Debug, clap::Args)]
struct Apply {
    /// Configuration with the transparent listener
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// Whose traffic is taken: these users' alone
    #[arg(long, value_name = "UID", num_args = 1.., required_unless_present = "except_uid", conflicts_with = "except_uid")]
    agent_uid: Vec<u32>,
    /// Everybody's traffic is taken but this user's, the sidecar's
    #[arg(long, value_name = "UID")]
    except_uid: Option<u32>,
    /// Where names may be asked for: nowhere, from a resolver on loopback, anywhere
    #[arg(long, value_enum, default_value_t = Dns::Local)]
    dns: Dns,
    /// Let other ports of loopback pass: they are reached without a decision
    #[arg(long)]
    allow_loopback: bool,
    /// Let answers pass on connections that others opened to the agent
    #[arg(long)]
    allow_inbound: bool,
    /// Print the rules and change nothing
    #[arg(long)]
    plan: bool,
}

/// Where names may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Dns {
    Refuse,
    Local,
    Any,
}

/// Runs `outrider net …`.
///
/// # Errors
/// There is no nft, or it refuses.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Action::Apply(apply) => apply.run(),
        Action::Show { json: false } => listed(&["list", "table"]),
        Action::Show { json: true } => listed(&["--json", "list", "table"]),
        Action::Remove => listed(&["delete", "table"]),
    }
}

impl Apply {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let loaded = read(&self.config)?;
        let ports: Vec<(Mode, u16)> = loaded
            .config
            .listeners
            .iter()
            .filter_map(|one| match one.address {
                ListenAddress::Tcp(address) => Some((one.mode, address.port())),
                ListenAddress::Unix(_) => None,
            })
            .collect();
        if ports.iter().any(|(_, port)| *port == 0) {
            bail!("a listener has no fixed port: give each one in `listeners[].address`");
        }
        let to = ports.iter().find(|(mode, _)| *mode == Mode::Transparent);
        let (_, to) = to.context(
            "no transparent listener: add `{mode: transparent, address: \"[::]:15003\", tls: intercept}` to `listeners`",
        )?;
        let own: Vec<u16> = ports.iter().map(|(_, port)| *port).collect();
        let rules = self.rules(*to, &own);
        if self.plan {
            io::stdout().write_all(rules.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        nft(&["-f", "-"], &rules)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The rules as one transaction. What was redirected leaves by loopback alone: a socket that is
    /// bound to a device would take it out there.
    fn rules(&self, to: u16, own: &[u16]) -> String {
        let whose = match self.except_uid {
            Some(uid) => format!("meta skuid != {uid}"),
            None => format!("meta skuid {}", set(&self.agent_uid)),
        };
        let mut taken = String::new();
        let mut judged = String::from("        ct status dnat accept\n");
        match self.dns {
            Dns::Refuse => {}
            Dns::Local => judged
                .push_str("        oifname \"lo\" meta l4proto { tcp, udp } th dport 53 accept\n"),
            Dns::Any => {
                taken.push_str("        tcp dport 53 return\n");
                judged.push_str("        meta l4proto { tcp, udp } th dport 53 accept\n");
            }
        }
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            judged,
            "        oifname \"lo\" tcp dport {} accept",
            set(own)
        );
        if self.allow_loopback {
            judged.push_str("        oifname \"lo\" accept\n");
        }
        if self.allow_inbound {
            judged.push_str("        ct direction reply accept\n");
        }
        format!(
            "table {TABLE}
delete table {TABLE}
table {TABLE} {{
    chain nat_output {{
        type nat hook output priority -100; policy accept;
        {whose} jump taken
    }}
    chain taken {{
{taken}        oifname \"lo\" return
        meta l4proto tcp redirect to :{to}
    }}
    chain filter_output {{
        type filter hook output priority 0; policy accept;
        {whose} jump judged
    }}
    chain judged {{
{judged}        reject with icmpx admin-prohibited
    }}
    chain filter_postrouting {{
        type filter hook postrouting priority 0; policy accept;
        {whose} ct status dnat oifname != \"lo\" drop
    }}
}}
"
        )
    }
}

fn set<T: ToString>(of: &[T]) -> String {
    let all: Vec<_> = of.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", all.join(", "))
}

/// Asks nft about the table; 1 where there is none.
fn listed(words: &[&str]) -> anyhow::Result<ExitCode> {
    let table: Vec<_> = TABLE.split(' ').collect();
    match nft(&[words, &table].concat(), "") {
        Ok(said) => {
            io::stdout().write_all(said.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if format!("{error:#}").contains("No such file or directory") => {
            writeln!(
                io::stderr(),
                "no rules are in force: see `outrider net apply`"
            )?;
            Ok(ExitCode::from(1))
        }
        Err(error) => Err(error),
    }
}

fn nft(words: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("nft")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow::anyhow!("`nft` is not here: install the package nftables")
            }
            _ => error.into(),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // What is wrong with it nft says itself.
        stdin.write_all(input.as_bytes()).ok();
    }
    let done = child.wait_with_output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let hint = if said.contains("not permitted") {
        ": run as root, or with CAP_NET_ADMIN"
    } else {
        ""
    };
    bail!("nft refuses{hint}: {}", said.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn apply(words: &str) -> Result<Apply, clap::Error> {
        let words = ["net", "apply"].into_iter().chain(words.split_whitespace());
        let line = <Line as clap::Parser>::try_parse_from(words)?;
        match line.args.command {
            Action::Apply(apply) => Ok(apply),
            Action::Show { .. } | Action::Remove => unreachable!(),
        }
    }

    #[test]
    fn somebody_must_be_named() {
        assert!(apply("").is_err());
        assert!(apply("--agent-uid 7 --except-uid 8").is_err());
        assert!(apply("--agent-uid x").is_err());
    }

    #[test]
    fn what_is_not_named_is_refused() {
        let rules = apply("--agent-uid 65534 1000")
            .unwrap()
            .rules(15003, &[15001, 15003]);
        insta::assert_snapshot!(rules, @r#"
        table inet outrider
        delete table inet outrider
        table inet outrider {
            chain nat_output {
                type nat hook output priority -100; policy accept;
                meta skuid { 65534, 1000 } jump taken
            }
            chain taken {
                oifname "lo" return
                meta l4proto tcp redirect to :15003
            }
            chain filter_output {
                type filter hook output priority 0; policy accept;
                meta skuid { 65534, 1000 } jump judged
            }
            chain judged {
                ct status dnat accept
                oifname "lo" meta l4proto { tcp, udp } th dport 53 accept
                oifname "lo" tcp dport { 15001, 15003 } accept
                reject with icmpx admin-prohibited
            }
            chain filter_postrouting {
                type filter hook postrouting priority 0; policy accept;
                meta skuid { 65534, 1000 } ct status dnat oifname != "lo" drop
            }
        }
        "#);
    }

    #[test]
    fn each_exception_is_one_rule() {
        let plain = apply("--except-uid 7").unwrap().rules(1, &[1]);
        assert!(plain.contains("meta skuid != 7 jump taken"));
        for (words, rule) in [
            ("--dns any", "tcp dport 53 return"),
            (
                "--dns any",
                "        meta l4proto { tcp, udp } th dport 53 accept",
            ),
            ("--allow-loopback", "oifname \"lo\" accept"),
            ("--allow-inbound", "ct direction reply accept"),
        ] {
            let rules = apply(&format!("--except-uid 7 {words}"))
                .unwrap()
                .rules(1, &[1]);
            assert!(
                rules.contains(rule) && !plain.contains(rule),
                "{words}: {rules}"
            );
        }
        let refused = apply("--except-uid 7 --dns refuse").unwrap().rules(1, &[1]);
        assert!(!refused.contains("dport 53"));
    }
}
