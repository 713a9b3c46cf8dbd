//! Which systemd unit a process is of, by its control group (cgroups(7)).

/// The innermost unit of a process; none if it is of none, or gone.
pub fn of(pid: i32) -> Option<String> {
    unit(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Reads /proc/PID/cgroup: systemd's own hierarchy, or the one that is for all.
fn unit(text: &str) -> Option<String> {
    let paths = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        matches!(controllers, "" | "name=systemd").then_some(path)
    });
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    paths.filter_map(|path| path.rsplit('/').find(is_unit)).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn the_innermost_unit_is_found() {
        for (text, wanted) in [
            ("0::/system.slice/ssh.service\n", Some("ssh.service")),
            ("0::/system.slice/docker.service/payload\n", Some("docker.service")),
            ("12:cpu:/a.service\n1:name=systemd:/system.slice/cron.service\n0::/\n", Some("cron.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a:b.service\n", Some("a:b.service")),
            ("0::/init.scope\n", Some("init.scope")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(text).as_deref(), wanted, "{text}");
        }
    }
}
