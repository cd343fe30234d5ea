//! Paths in another process's file system: a link in a container must not lead out of it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Components that are looked at on the way to one file: a link may lead through as many as a path
/// has room for, and to another such link.
const MAX_STEPS: usize = 4096;

/// The path in this process's file system of what is at `path` below `root`. Links are not followed.
pub fn in_root(root: &Path, path: &Path) -> PathBuf {
    let below = path.components().filter(|component| matches!(component, Component::Normal(_)));
    root.join(below.collect::<PathBuf>())
}

/// Follows all links of `path` as a process with the root directory `root` would: absolute links
/// begin at `root`, and `..` ends there. The result is absolute, seen from inside.
pub fn resolve_in(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::from("/");
    // The next component is the last of these.
    let mut pending = Vec::new();
    push_reversed(&mut pending, path);
    let (mut links, mut steps) = (0, 0);
    while let Some(step) = pending.pop() {
        steps += 1;
        if steps > MAX_STEPS {
            return Err(io::Error::other(format!("too long a way to {}", path.display())));
        }
        match step {
            Step::Root => resolved = PathBuf::from("/"),
            Step::Up => {
                resolved.pop();
            }
            Step::Down(name) => {
                let candidate = resolved.join(name);
                let outside = in_root(root, &candidate);
                if !fs::symlink_metadata(&outside)?.is_symlink() {
                    resolved = candidate;
                    continue;
                }
                links += 1;
                if links > MAX_LINKS {
                    let message = format!("too many symbolic links in {}", path.display());
                    return Err(io::Error::other(message));
                }
                push_reversed(&mut pending, &fs::read_link(&outside)?);
            }
        }
    }
    Ok(resolved)
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

fn push_reversed(pending: &mut Vec<Step>, path: &Path) {
    pending.extend(path.components().rev().filter_map(|component| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn resolve(root: &tempfile::TempDir, path: &str) -> io::Result<PathBuf> {
        resolve_in(root.path(), Path::new(path))
    }

    #[test]
    fn links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/deep")).unwrap();
        fs::write(root.path().join("usr/lib/libcuda.so.550"), "").unwrap();
        symlink("usr/lib", root.path().join("lib")).unwrap();
        symlink("libcuda.so.550", root.path().join("usr/lib/libcuda.so.1")).unwrap();
        symlink("/lib/libcuda.so.1", root.path().join("usr/lib/deep/absolute")).unwrap();
        symlink("../../../../../../lib/libcuda.so.1", root.path().join("usr/lib/up")).unwrap();
        for path in [
            "/usr/lib/libcuda.so.550",
            "/lib/libcuda.so.1",
            "lib/./deep/../libcuda.so.1",
            "/lib/deep/absolute",
            "/lib/up",
            "/../../lib/libcuda.so.1",
        ] {
            let resolved = resolve(&root, path).unwrap();
            assert_eq!(resolved, Path::new("/usr/lib/libcuda.so.550"), "{path}");
        }
        assert_eq!(resolve(&root, "/").unwrap(), Path::new("/"));
        assert_eq!(resolve(&root, "").unwrap(), Path::new("/"));
    }

    #[test]
    fn a_link_to_the_host_finds_nothing() {
        let host = tempfile::tempdir().unwrap();
        let secret = host.path().join("libcuda.so.1");
        fs::write(&secret, "host").unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(&secret, root.path().join("libcuda.so.1")).unwrap();
        let error = resolve(&root, "/libcuda.so.1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn dead_ends_are_errors() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(resolve(&root, "/a").unwrap_err().to_string().contains("too many symbolic links"));
        assert_eq!(resolve(&root, "/none/x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(resolve(&root, "/file/x").unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn names_below_a_root() {
        let root = Path::new("/proc/7/root");
        assert_eq!(in_root(root, Path::new("/usr/lib")), Path::new("/proc/7/root/usr/lib"));
        assert_eq!(in_root(root, Path::new("/../etc")), Path::new("/proc/7/root/etc"));
        assert_eq!(in_root(root, Path::new("/")), Path::new("/proc/7/root/"));
    }

    #[test]
    fn a_way_that_links_make_endless_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        let long = "d/../".repeat(500);
        for link in 0..20 {
            symlink(format!("{long}l{}", link + 1), root.path().join(format!("l{link}"))).unwrap();
        }
        fs::write(root.path().join("l20"), "").unwrap();
        let error = resolve(&root, "/l0").unwrap_err().to_string();
        assert!(error.contains("too long a way"), "{error}");
        assert_eq!(resolve(&root, "/l19").unwrap(), Path::new("/l20"));
    }
}
