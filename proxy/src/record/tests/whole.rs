use super::*;

/// One process has written a part of its line when another one appends.
#[test]
fn what_another_process_appended_is_never_cut_off() {
    let memory = Memory::default();
    let mut ours = Whole::new(memory.clone(), Counts::Written);
    let mut theirs = Whole::new(memory.clone(), Counts::Written);
    ours.share();
    theirs.share();
    // Our line is cut short, and so is the end that is to follow it.
    memory.plan(&[Fate::Short(3), Fate::Refused], 0);
    ours.append(b"our first\n").unwrap_err();
    theirs.append(b"theirs\n").unwrap();
    ours.append(b"our second\n").unwrap();
    assert_eq!(memory.bytes(), b"ourtheirs\n\nour second\n");
}

#[test]
fn a_line_that_was_cut_short_in_a_shared_file_stands_alone() {
    let memory = Memory::default();
    let mut ours = Whole::new(memory.clone(), Counts::Written);
    ours.share();
    memory.plan(&[Fate::Short(3)], 0);
    ours.append(b"our first\n").unwrap_err();
    ours.append(b"our second\n").unwrap();
    assert_eq!(memory.bytes(), b"our\nour second\n");
}
