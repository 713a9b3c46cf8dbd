use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use super::{check, close, keep_others_from_writing, let_through, make};

/// A user who is not root.
const OTHER: u32 = 4321;

/// A directory below one that is safe: the one for temporary files is not.
struct Place(PathBuf);

impl Place {
    fn new(label: &str) -> Self {
        let path = PathBuf::from(format!("/run/bulkhead-places-{label}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn what_others_own_or_may_write_to_is_refused_by_name() {
    let place = Place::new("refused");
    let below = |mode| place.directory("above", mode).join("own/instance");
    make(&below(0o755), 2).unwrap();
    assert_eq!((mode(&place.0.join("above/own")), mode(&below(0o755))), (0o700, 0o700));
    for writable in [0o777, 0o1777, 0o775, 0o757] {
        for refused in [check, |path: &Path| close(path, 2), |path: &Path| make(path, 2)] {
            let error = refused(&below(writable)).unwrap_err().to_string();
            let next = format!("chmod go-w {}", place.0.join("above").display());
            assert!(error.contains(&next) && error.contains(&format!("{writable:04o}")), "{error}");
        }
    }
    make(&below(0o755), 2).unwrap();
    for part in ["above/own/instance", "above/own", "above"] {
        let part = place.0.join(part);
        chown(&part, Some(OTHER), None).unwrap();
        for refused in [check, |path: &Path| close(path, 2), |path: &Path| make(path, 2)] {
            let error = refused(&below(0o755)).unwrap_err().to_string();
            assert!(error.contains(&format!("{} belongs to user {OTHER}", part.display())), "{error}");
        }
        chown(&part, Some(0), None).unwrap();
    }
}

#[test]
fn own_directories_are_closed_and_what_others_put_there_is_refused() {
    let place = Place::new("closed");
    let (own, instance) = (place.directory("own", 0o777), place.directory("own/instance", 0o750));
    fs::write(own.join("mine"), "").unwrap();
    close(&instance, 2).unwrap();
    assert_eq!((mode(&own), mode(&instance)), (0o700, 0o700));

    place.directory("own", 0o777);
    fs::write(own.join("theirs"), "").unwrap();
    chown(own.join("theirs"), Some(OTHER), None).unwrap();
    let error = close(&instance, 2).unwrap_err().to_string();
    assert!(error.contains("own/theirs belongs to user"), "{error}");
    assert_eq!(mode(&own), 0o700, "nobody adds anything meanwhile");
}

#[test]
fn links_are_followed_if_nobody_else_may_turn_them() {
    let place = Place::new("links");
    place.directory("elsewhere", 0o755);
    let link = place.0.join("link");
    symlink("../".to_owned() + place.0.file_name().unwrap().to_str().unwrap() + "/elsewhere", &link).unwrap();
    make(&link.join("own"), 1).unwrap();
    assert_eq!(mode(&place.0.join("elsewhere/own")), 0o700);
    // An own directory may itself be a link.
    symlink(place.0.join("elsewhere/own"), place.0.join("moved")).unwrap();
    place.directory("elsewhere/own", 0o755);
    close(&place.0.join("moved"), 1).unwrap();
    assert_eq!(mode(&place.0.join("elsewhere/own")), 0o700);

    place.directory("elsewhere", 0o777);
    assert!(check(&link.join("own")).unwrap_err().to_string().contains("elsewhere (mode 0777)"));
    place.directory("elsewhere", 0o755);
    std::os::unix::fs::lchown(&link, Some(OTHER), None).unwrap();
    assert!(check(&link.join("own")).unwrap_err().to_string().contains("link belongs to user"));
    symlink(place.0.join("round"), place.0.join("round")).unwrap();
    assert!(check(&place.0.join("round")).is_err());
}

#[test]
fn what_is_missing_is_made_only_where_it_is_the_agents_own() {
    let place = Place::new("missing");
    check(&place.0.join("nothing/here")).unwrap();
    close(&place.0.join("nothing/here"), 1).unwrap();
    assert!(!place.0.join("nothing").exists());
    let error = make(&place.0.join("nothing/here"), 1).unwrap_err().to_string();
    assert!(error.contains("nothing: it must be there"), "{error}");
    // A file in the place of a directory.
    fs::write(place.0.join("file"), "").unwrap();
    assert!(make(&place.0.join("file/here"), 1).is_err());
}

#[test]
fn others_are_kept_from_writing_and_not_from_reading() {
    let place = Place::new("sticky");
    let path = place.directory("bpf", 0o1777);
    assert!(keep_others_from_writing(&path).unwrap());
    assert_eq!(mode(&path), 0o1755);
    assert!(!keep_others_from_writing(&path).unwrap());
}

#[test]
fn others_get_through_and_no_further() {
    let place = Place::new("through");
    let own = place.directory("own", 0o777);
    let_through(&own).unwrap();
    assert_eq!(mode(&own), 0o711);
    // Nor does the next agent take that back from another one.
    make(&own.join("instance"), 2).unwrap();
    assert_eq!((mode(&own), mode(&own.join("instance"))), (0o711, 0o700));
}
