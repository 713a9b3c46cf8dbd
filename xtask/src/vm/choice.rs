//! Which kernels there are in an index of packages, and which of them is meant.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

/// A kernel as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The series, major and minor; the newest if there is none.
    series: Option<(u32, u32)>,
    /// PREEMPT_RT, else the kernel for clouds.
    rt: bool,
}

impl Wanted {
    const fn series(major: u32, minor: u32) -> Self {
        Self { series: Some((major, minor)), rt: false }
    }

    /// What is run if nothing is named.
    pub const ALL: [Self; 6] = [
        Self::series(6, 1),
        Self::series(6, 12),
        Self::series(6, 16),
        Self::series(6, 18),
        Self { series: None, rt: false },
        Self { series: None, rt: true },
    ];

    /// The one that the package is tried on.
    pub const PACKAGED: Self = Self::series(6, 12);

    /// Whether it has what attaching needs (TCX links: Linux 6.6).
    pub fn attaches(self) -> bool {
        self.series.is_none_or(|series| series >= (6, 6))
    }

    fn flavour(self) -> &'static str {
        if self.rt { "-rt-amd64" } else { "-cloud-amd64" }
    }
}

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (series, rt) = match text.strip_suffix("-rt") {
            Some(series) => (series, true),
            None if text == "rt" => ("newest", true),
            None => (text, false),
        };
        if series == "newest" {
            return Ok(Self { series: None, rt });
        }
        let (major, minor) =
            series.split_once('.').context("is no series; write `6.12`, `6.12-rt`, `newest` or `rt`")?;
        Ok(Self { series: Some((major.parse()?, minor.parse()?)), rt })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.series, self.rt) {
            (None, false) => "newest".to_owned(),
            (None, true) => "rt".to_owned(),
            (Some((major, minor)), false) => format!("{major}.{minor}"),
            (Some((major, minor)), true) => format!("{major}.{minor}-rt"),
        };
        f.pad(&text)
    }
}

/// A kernel of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says.
    pub release: String,
    /// The package's version, which begins with the kernel's own.
    pub version: String,
    /// What it consists of, as apt takes it: `name=version`.
    pub packages: Vec<String>,
}

impl Kernel {
    /// The kernel's own version.
    pub fn upstream(&self) -> &str {
        self.version.split('-').next().unwrap_or_default()
    }
}

/// One package of the index.
#[derive(Debug)]
struct Package<'a> {
    version: &'a str,
    depends: Vec<&'a str>,
}

/// Numbers of a kernel's version, then of Debian's revision.
fn order(version: &str) -> Option<(Vec<u32>, u32)> {
    let (upstream, revision) = version.split_once('-')?;
    let numbers = upstream.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    let digits = revision.find(|c: char| !c.is_ascii_digit()).unwrap_or(revision.len());
    Some((numbers, revision[..digits].parse().ok()?))
}

/// Every `linux-*` package of an index, the newest version of each.
fn packages(index: &str) -> BTreeMap<&str, Package<'_>> {
    let mut found: BTreeMap<&str, Package> = BTreeMap::new();
    for paragraph in index.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        let (Some(name), Some(version)) = (field("Package: linux-"), field("Version: ")) else { continue };
        let depends = field("Depends: ").unwrap_or_default().split(", ");
        let depends = depends.filter_map(|one| one.split(' ').next()?.strip_prefix("linux-")).collect();
        if found.get(name).is_none_or(|old| order(old.version) < order(version)) {
            found.insert(name, Package { version, depends });
        }
    }
    found
}

/// The newest kernel of a series. Packages that only name another one are none.
pub fn choose(index: &str, wanted: Wanted) -> Result<Kernel> {
    let packages = packages(index);
    let kernels = packages.iter().filter_map(|(name, package)| {
        let release = name.strip_prefix("image-")?;
        let is_name = package.depends.iter().any(|other| other.starts_with("image-"));
        if is_name || !release.ends_with(wanted.flavour()) {
            return None;
        }
        let order = order(package.version)?;
        let series = (*order.0.first()?, *order.0.get(1)?);
        (wanted.series.is_none() || wanted.series == Some(series)).then_some((order, release, package))
    });
    let newest = kernels.max_by(|(one, name, _), (other, second, _)| (one, name).cmp(&(other, second)));
    let (_, release, package) =
        newest.with_context(|| format!("the suites that apt reads have no kernel {wanted}"))?;
    // From 6.19 on the image is in two other packages. linux-base, which older ones name, has nothing to boot,
    // and is not always in the archive.
    let holds = |part: &&&str| {
        part.ends_with(release) && (part.starts_with("binary-") || part.starts_with("modules-"))
    };
    let mut parts = vec![format!("linux-image-{release}={}", package.version)];
    for part in package.depends.iter().filter(holds) {
        let version = packages.get(part).map(|part| part.version);
        ensure!(version == Some(package.version), "linux-{part} has not the version {}", package.version);
        parts.push(format!("linux-{part}={}", package.version));
    }
    Ok(Kernel { release: release.to_owned(), version: package.version.to_owned(), packages: parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "Package: linux-image-6.1.0-9-cloud-amd64\nVersion: 6.1.27-1\nDepends: kmod, linux-base (>= 4.3~)\n
Package: linux-image-6.1.0-56-cloud-amd64\nVersion: 6.1.192-2\nDepends: kmod, linux-base (>= 4.3~)\n
Package: linux-image-6.1.0-55-cloud-amd64\nVersion: 6.1.192-1\nDepends: kmod, linux-base (>= 4.3~)\n
Package: linux-image-6.12-cloud-amd64\nVersion: 6.12.200-1\nDepends: linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)\n
Package: linux-image-6.12.117+deb12-cloud-amd64\nVersion: 6.12.117-1~deb12u1\nDepends: kmod\n
Package: linux-image-6.12.90+deb12-cloud-amd64\nVersion: 6.12.90-1~bpo12+1\nDepends: kmod\n
Package: linux-image-6.12.117+deb12-rt-amd64\nVersion: 6.12.117-1~deb12u1\nDepends: kmod\n
Package: linux-image-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\nDepends: dracut | initramfs-tools (>= 1), linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)\n
Package: linux-base-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n
Package: linux-binary-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n
Package: bash\nVersion: 9.9-1\n";

    fn chosen(text: &str) -> Kernel {
        choose(INDEX, text.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_newest_of_a_series_is_chosen_by_number() {
        assert_eq!(chosen("6.1").release, "6.1.0-56-cloud-amd64");
        assert_eq!(chosen("6.1").upstream(), "6.1.192");
        assert_eq!(chosen("6.12").release, "6.12.117+deb12-cloud-amd64", "not what only names a kernel");
        assert_eq!(chosen("6.12").packages, ["linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1"]);
        assert_eq!(chosen("rt").release, "6.12.117+deb12-rt-amd64");
        assert_eq!(chosen("6.12-rt"), chosen("rt"));
    }

    #[test]
    fn a_kernel_in_several_packages_is_taken_whole() {
        let kernel = chosen("newest");
        let names: Vec<_> = kernel.packages.iter().map(|part| part.split('=').next().unwrap()).collect();
        let release = "7.3.4+deb13-cloud-amd64";
        assert_eq!(names, ["image", "binary"].map(|part| format!("linux-{part}-{release}")));
        let without = INDEX.replace("Package: linux-binary-", "Package: linux-other-");
        assert!(choose(&without, "newest".parse().unwrap()).is_err());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let error = choose(INDEX, "6.6".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("6.6"), "{error}");
        assert!("bookworm".parse::<Wanted>().is_err());
        for wanted in Wanted::ALL {
            assert_eq!(wanted.to_string().parse::<Wanted>().unwrap(), wanted);
        }
    }
}
