use std::{collections::BTreeSet, env, os::unix::fs::PermissionsExt, process::Command};

use super::*;

#[tokio::test]
async fn spool_file_is_kept_once_until_removed() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data").join("escrow");
    let spool = EscrowSpool::new(folder.clone());
    assert_eq!(spool.names().await.unwrap(), [""; 0]);
    assert!(!folder.exists(), "looking creates nothing");
    for _ in 0..2 {
        spool.keep("escrow-1".to_owned(), "body").await.unwrap();
    }
    fs::write(folder.join("escrow-2.new"), "half").unwrap();
    assert_eq!(spool.names().await.unwrap(), ["escrow-1.escrow"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("escrow-1.escrow"))), (0o700, 0o600));
    assert_eq!(spool.read("escrow-1.escrow").await.unwrap().as_deref(), Some(&b"body"[..]));
    for _ in 0..2 {
        spool.remove("escrow-1.escrow").await.unwrap();
    }
    assert_eq!(spool.read("escrow-1.escrow").await.unwrap(), None);
    assert_eq!(spool.names().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn spool_full_folder_refuses_and_set_aside_file_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let spool = EscrowSpool::new(folder.path().to_owned());
    for number in 0..MAX_FILES {
        fs::write(folder.path().join(format!("{number}.escrow")), "").unwrap();
    }
    let refused = spool.keep("one-more".to_owned(), "").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    for _ in 0..2 {
        spool.set_aside("7.escrow").await.unwrap();
    }
    spool.keep("one-more".to_owned(), "").await.unwrap();
    fs::write(folder.path().join("8.escrow"), vec![0; 100_000]).unwrap();
    assert_eq!(spool.read("8.escrow").await.unwrap(), Some(Vec::new()));
}

/// Names the folder of a small disk to a test that runs again in a mount namespace of its own.
const SMALL_DISK: &str = "LARKAUTH_TEST_SMALL_DISK";

/// Returns the folder of a disk of 3 MiB, in the process that has one. Otherwise runs the test again in such a process, and
/// returns `None` when it has passed there.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(folder) = env::var_os(SMALL_DISK) {
        return Some(folder.into());
    }
    let in_namespace = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount"]);
        command
    };
    if !in_namespace().arg("true").output().is_ok_and(|ended| ended.status.success()) {
        eprintln!("skipped: this machine permits no mount namespace (`unshare --map-root-user --mount`)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size=3m tmpfs \"${SMALL_DISK}\"; exec \"$0\" \"$@\"");
    let again = in_namespace()
        .args(["sh", "-ec", &script])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(SMALL_DISK, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&again.stderr)
    );
    None
}

/// Takes all free space of a disk.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [64 * 1024, 512] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    assert_eq!(file.write_all(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
}

fn sizes(folder: &Path) -> BTreeSet<u64> {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

#[tokio::test]
async fn spool_on_full_disk_keeps_as_many_pairs_as_were_reserved() {
    let Some(disk) = small_disk("spool::tests::spool_on_full_disk_keeps_as_many_pairs_as_were_reserved")
    else {
        return;
    };
    let (folder, filler) = (disk.join("escrow"), disk.join("filler"));
    let spool = EscrowSpool::new(folder.clone());
    spool.fill_reserve().await.unwrap();
    let reserved = SpoolState { reserved: SpoolState::RESERVE, ..SpoolState::default() };
    // Another process on the same folder.
    EscrowSpool::new(folder.clone()).fill_reserve().await.unwrap();
    assert_eq!(spool.state().await.unwrap(), reserved);
    fill_up(&filler);

    let body = |number: usize| format!("{{\"pair\":\"{}\"}}", number.to_string().repeat(8000));
    for number in 0..SpoolState::RESERVE {
        spool.keep(format!("escrow-{number:036}"), body(number)).await.unwrap();
    }
    let refused = spool.keep("escrow-too-many".to_owned(), body(0)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    let used = SpoolState { waiting: SpoolState::RESERVE, ..SpoolState::default() };
    assert_eq!(spool.state().await.unwrap(), used, "no part of the refused file is left");
    assert_eq!(sizes(&folder), BTreeSet::from([reserve::BYTES as u64]));
    assert!(spool.fill_reserve().await.is_err());
    assert_eq!(spool.state().await.unwrap(), used, "there is no room");
    for number in 0..SpoolState::RESERVE {
        let name = format!("escrow-{number:036}.escrow");
        assert_eq!(spool.read(&name).await.unwrap().unwrap(), body(number).as_bytes());
        spool.remove(&name).await.unwrap();
    }

    fs::remove_file(&filler).unwrap();
    spool.fill_reserve().await.unwrap();
    assert_eq!(spool.state().await.unwrap(), reserved, "there is room again");
    assert_eq!(sizes(&folder), BTreeSet::from([reserve::BYTES as u64]));
}

#[tokio::test]
async fn spool_with_room_keeps_its_reserve_and_cuts_only_its_own_spaces() {
    let folder = tempfile::tempdir().unwrap();
    let spool = EscrowSpool::new(folder.path().join("escrow"));
    for _ in 0..2 {
        spool.fill_reserve().await.unwrap();
    }
    assert_eq!(spool.oldest().await.unwrap(), None);
    spool.keep("escrow-1".to_owned(), "{ \"a\": \" \" }").await.unwrap();
    let state = SpoolState { waiting: 1, reserved: SpoolState::RESERVE, ..SpoolState::default() };
    assert_eq!(spool.state().await.unwrap(), state);
    let written = fs::metadata(folder.path().join("escrow/escrow-1.escrow")).unwrap().modified().unwrap();
    spool.keep("escrow-2".to_owned(), "{}").await.unwrap();
    assert_eq!(spool.oldest().await.unwrap(), Some(written));
    spool.remove("escrow-2.escrow").await.unwrap();
    assert_eq!(spool.read("escrow-1.escrow").await.unwrap().unwrap(), b"{ \"a\": \" \" }");
    let large = reserve::write(&folder.path().join("escrow"), "escrow-2", &vec![b'x'; reserve::BYTES + 1]);
    assert_eq!(large.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(spool.state().await.unwrap(), state);
}
