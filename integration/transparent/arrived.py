"""How many segments of TCP and datagrams of UDP this network namespace has taken in."""


def count(table, protocol, names):
    lines = [line.split() for line in open(table) if line.startswith(protocol + ":")]
    found = dict(zip(lines[0][1:], lines[1][1:]))
    return sum(int(found[name]) for name in names)


tcp = count("/proc/net/snmp", "Tcp", ["InSegs"])
udp = count("/proc/net/snmp", "Udp", ["InDatagrams", "NoPorts"])
six = {name: int(value) for name, value in (line.split() for line in open("/proc/net/snmp6"))}
print(tcp, udp + six["Udp6InDatagrams"] + six["Udp6NoPorts"])
