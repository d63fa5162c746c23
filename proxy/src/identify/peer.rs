//! Which user is at the other end of a local connection, as the kernel knows it.
//!
//! Asked once per accepted connection, before anything is read from it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::UnixStream;

/// The kernel's table of IPv4 connections of our network namespace.
const TABLE_V4: &str = "/proc/net/tcp";

/// The table of IPv6 connections, mapped IPv4 ones included.
const TABLE_V6: &str = "/proc/net/tcp6";

/// A row can be skipped while others in its table come and go; a second look finds it.
const LOOKS: usize = 2;

/// `listeners[].peers`: which local users may connect. An empty list admits nobody.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The user IDs, as seen in the sidecar's user namespace.
    pub uid: Vec<u32>,
}

impl Peers {
    /// Lets a listed user in.
    ///
    /// # Errors
    /// [`Stranger::NotAdmitted`] for anyone else.
    pub fn admit(&self, uid: u32) -> Result<u32, Stranger> {
        if self.uid.contains(&uid) {
            Ok(uid)
        } else {
            Err(Stranger::NotAdmitted { uid })
        }
    }
}

/// A connection whose user is not known, or is not one that may connect.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// The kernel does not know the connection, or knows it as more than one user's.
    #[error("the kernel does not say whose connection this is")]
    Unknown,
    /// The kernel could not be asked.
    #[error("the kernel could not be asked whose connection this is")]
    Unreadable(#[source] io::Error),
    /// The user is known and not listed.
    #[error("uid {uid} is not one of `peers.uid`")]
    NotAdmitted {
        /// The user.
        uid: u32,
    },
}

/// The user at the other end of a Unix socket, when it connected (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// [`Stranger::Unreadable`].
pub fn unix_peer(stream: &UnixStream) -> Result<u32, Stranger> {
    stream
        .peer_cred()
        .map(|peer| peer.uid())
        .map_err(Stranger::Unreadable)
}

/// The user whose socket is at `remote`, connected to `local`, by the kernel's table of TCP
/// connections (proc(5)). For a redirected connection `local` is its original destination.
///
/// The whole table is read, which costs time with the number of connections on this machine;
/// the work is that of one blocking read of a kernel file.
///
/// # Errors
/// [`Stranger::Unknown`] when the connection is not in the table: it comes from another machine
/// or namespace, or was closed meanwhile. [`Stranger::Unreadable`] when there is no table.
pub fn tcp_peer(remote: SocketAddr, local: SocketAddr) -> Result<u32, Stranger> {
    let (remote, local) = (canonical(remote), canonical(local));
    (0..LOOKS)
        .find_map(|_| look(remote, local).transpose())
        .unwrap_or(Err(Stranger::Unknown))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn look(remote: SocketAddr, local: SocketAddr) -> Result<Option<u32>, Stranger> {
    let mut owners = Owners::default();
    if remote.is_ipv4() {
        owners.read(open(TABLE_V4)?, &word_v4(remote), &word_v4(local))?;
    }
    match open(TABLE_V6) {
        Ok(table) => owners.read(table, &word_v6(remote), &word_v6(local))?,
        // A kernel without IPv6 has no such table, and nobody who connects by it.
        Err(Stranger::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    owners.only()
}

fn open(table: &str) -> Result<BufReader<File>, Stranger> {
    File::open(table)
        .map(BufReader::new)
        .map_err(Stranger::Unreadable)
}

/// Every user to whom the tables ascribe the connection.
#[derive(Default)]
struct Owners {
    first: Option<u32>,
    contradicted: bool,
}

impl Owners {
    fn read(&mut self, table: impl BufRead, remote: &str, local: &str) -> Result<(), Stranger> {
        for line in table.lines() {
            let line = line.map_err(Stranger::Unreadable)?;
            if let Some(uid) = owner(&line, remote, local) {
                self.contradicted |= self.first.is_some_and(|first| first != uid);
                self.first = Some(uid);
            }
        }
        Ok(())
    }

    fn only(&self) -> Result<Option<u32>, Stranger> {
        if self.contradicted {
            Err(Stranger::Unknown)
        } else {
            Ok(self.first)
        }
    }
}

/// The user of a table's row, if it is the living far end of this connection.
///
/// From its own side the far end is `local_address`. A socket whose process has closed it has
/// no inode and is shown as root's: such a row names nobody.
fn owner(row: &str, remote: &str, local: &str) -> Option<u32> {
    const ESTABLISHED: &str = "01";
    const FIN_WAIT: [&str; 2] = ["04", "05"];
    let mut columns = row.split_ascii_whitespace().skip(1);
    if columns.next()? != remote || columns.next()? != local {
        return None;
    }
    let state = columns.next()?;
    let uid = columns.nth(3)?.parse().ok()?;
    let inode = columns.nth(1)?;
    let living = state == ESTABLISHED || FIN_WAIT.contains(&state);
    (living && inode != "0").then_some(uid)
}

/// An address as the IPv4 table writes it: the word in the machine's byte order, then the port.
fn word_v4(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{}:{:04X}", hex(ip.octets()), address.port()),
        IpAddr::V6(_) => String::new(),
    }
}

/// An address as the IPv6 table writes it: four words, then the port.
fn word_v6(address: SocketAddr) -> String {
    let ip: Ipv6Addr = match address.ip() {
        IpAddr::V4(ip) => Ipv4Addr::to_ipv6_mapped(&ip),
        IpAddr::V6(ip) => ip,
    };
    let words: String = ip
        .octets()
        .as_chunks()
        .0
        .iter()
        .map(|word| hex(*word))
        .collect();
    format!("{words}:{:04X}", address.port())
}

fn hex(word: [u8; 4]) -> String {
    format!("{:08X}", u32::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const REMOTE: &str = "0100007F:B1C2";
    const LOCAL: &str = "0100007F:3A99";

    fn row(state: &str, uid: u32, inode: u64) -> String {
        format!(
            "   7: {REMOTE} {LOCAL} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0"
        )
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    fn connect(bind: &str, to: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(bind).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((to, port)).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn peer(server: &TcpStream) -> Result<u32, Stranger> {
        tcp_peer(server.peer_addr().unwrap(), server.local_addr().unwrap())
    }

    #[test]
    fn a_living_row_names_its_user() {
        assert_eq!(owner(&row("01", 1000, 4711), REMOTE, LOCAL), Some(1000));
        assert_eq!(owner(&row("05", 1000, 4711), REMOTE, LOCAL), Some(1000));
    }

    #[test]
    fn a_row_that_lingers_after_its_process_names_nobody() {
        assert_eq!(owner(&row("06", 0, 0), REMOTE, LOCAL), None);
        assert_eq!(owner(&row("01", 0, 0), REMOTE, LOCAL), None);
        assert_eq!(owner(&row("06", 0, 4711), REMOTE, LOCAL), None);
    }

    #[test]
    fn the_other_direction_and_other_rows_name_nobody() {
        assert_eq!(owner(&row("01", 1000, 1), LOCAL, REMOTE), None);
        assert_eq!(owner(&row("01", 1000, 1), REMOTE, "0100007F:3A98"), None);
        assert_eq!(
            owner("  sl  local_address rem_address   st", REMOTE, LOCAL),
            None
        );
        assert_eq!(owner("", REMOTE, LOCAL), None);
        assert_eq!(
            owner(&format!("0: {REMOTE} {LOCAL} 01"), REMOTE, LOCAL),
            None
        );
    }

    #[test]
    fn a_connection_ascribed_to_two_users_is_nobodys() {
        let table = format!("{}\n{}\n", row("01", 1000, 1), row("01", 1001, 2));
        let mut owners = Owners::default();
        owners.read(table.as_bytes(), REMOTE, LOCAL).unwrap();
        assert!(matches!(owners.only(), Err(Stranger::Unknown)));
    }

    #[test]
    fn the_user_of_a_real_connection_is_found() {
        let (_client, server) = connect("127.0.0.1:0", "127.0.0.1");
        assert_eq!(peer(&server).unwrap(), own_uid());
    }

    #[test]
    fn the_user_is_found_through_a_listener_for_both_families() {
        let Ok(probe) = TcpListener::bind("[::]:0") else {
            return;
        };
        drop(probe);
        for to in ["127.0.0.1", "::1"] {
            let (_client, server) = connect("[::]:0", to);
            assert_eq!(peer(&server).unwrap(), own_uid(), "{to}");
        }
    }

    #[test]
    fn a_connection_the_kernel_does_not_know_is_refused() {
        let (client, server) = connect("127.0.0.1:0", "127.0.0.1");
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], client.local_addr().unwrap().port()));
        let result = tcp_peer(elsewhere, server.local_addr().unwrap());
        assert!(matches!(result, Err(Stranger::Unknown)));
    }

    #[test]
    fn a_connection_whose_client_has_gone_is_refused() {
        let (client, server) = connect("127.0.0.1:0", "127.0.0.1");
        let remote = client.local_addr().unwrap();
        drop(client);
        let result = tcp_peer(remote, server.local_addr().unwrap());
        assert!(matches!(result, Err(Stranger::Unknown)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_user_of_a_unix_socket_is_known() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert_eq!(unix_peer(&a).unwrap(), own_uid());
    }

    #[test]
    fn only_listed_users_are_admitted_and_an_empty_list_admits_nobody() {
        assert!(
            Peers {
                uid: vec![1000, 1001]
            }
            .admit(1001)
            .is_ok()
        );
        let refused = Peers { uid: vec![1000] }.admit(0);
        assert!(matches!(refused, Err(Stranger::NotAdmitted { uid: 0 })));
        assert!(Peers { uid: vec![] }.admit(0).is_err());
    }
}
