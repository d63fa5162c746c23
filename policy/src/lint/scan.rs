//! What is refused before anything is parsed: sizes and nesting that would take the parser's time or stack.

use crate::problem::{Problem, Source};

/// The largest file in bytes.
const LARGEST: usize = 256 * 1024;
/// The most files.
const MOST_FILES: usize = 256;
/// The most bytes in all files together.
const MOST: usize = 1024 * 1024;
/// The deepest nesting of brackets: the engine's parser takes time exponential in it.
const DEEPEST: usize = 10;
/// The most operators, dots and indexes in one statement: the tree is as deep as they are many.
const MOST_LINKS: usize = 48;

/// Every problem of size.
pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let total: usize = sources.iter().map(|source| source.text.len()).sum();
    if sources.len() > MOST_FILES || total > MOST {
        let message = format!("more than {MOST_FILES} files or {MOST} bytes of rules");
        return vec![Problem::in_file("policy", message)];
    }
    sources
        .iter()
        .filter_map(|source| file(source).err())
        .collect()
}

fn file(source: &Source) -> Result<(), Problem> {
    if source.text.len() > LARGEST {
        let message = format!("the file is larger than {LARGEST} bytes: split it");
        return Err(Problem::in_file(&source.name, message));
    }
    let mut scan = Scan::default();
    for letter in source.text.chars() {
        scan.step(letter).map_err(|message| Problem {
            file: source.name.clone(),
            line: scan.line + 1,
            column: scan.column,
            message,
        })?;
    }
    Ok(())
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Code,
    Comment,
    Text,
    Escape,
    Raw,
}

#[derive(Default)]
struct Scan {
    place: Place,
    line: u32,
    column: u32,
    depth: usize,
    /// Operators, dots and indexes since the statement began.
    links: usize,
    /// The line ends with what cannot end a statement.
    open: bool,
    /// A statement may have ended: what comes next will tell.
    ended: bool,
    word: String,
}

impl Scan {
    fn step(&mut self, letter: char) -> Result<(), String> {
        self.column += 1;
        self.place = match (self.place, letter) {
            (Place::Code, '"') | (Place::Escape, _) => Place::Text,
            (Place::Code, '`') => Place::Raw,
            (Place::Code, '#') => Place::Comment,
            (Place::Code, _) | (Place::Comment, '\n') => {
                self.code(letter)?;
                Place::Code
            }
            (Place::Text, '\\') => Place::Escape,
            (Place::Text, '"') | (Place::Raw, '`') => {
                self.begin(false);
                self.open = false;
                Place::Code
            }
            (place, _) => place,
        };
        if letter == '\n' {
            self.line += 1;
            self.column = 0;
        }
        Ok(())
    }

    fn code(&mut self, letter: char) -> Result<(), String> {
        if letter.is_alphanumeric() || letter == '_' {
            self.word.push(letter);
            self.open = false;
            return Ok(());
        }
        if !self.word.is_empty() {
            let word = std::mem::take(&mut self.word);
            let joins = matches!(word.as_str(), "in" | "else");
            self.begin(joins);
            if joins || word == "not" {
                self.links += 1;
            }
            self.open = word == "in";
        }
        match letter {
            '[' | '(' | '{' => {
                self.begin(letter != '{');
                self.depth += 1;
                self.links += 1;
                self.open = false;
            }
            ']' | ')' | '}' => {
                self.depth = self.depth.saturating_sub(1);
                self.open = false;
                self.ended = letter == '}' && self.depth == 0;
            }
            '.' | '+' | '-' | '*' | '/' | '%' | '|' | '&' | '=' | '<' | '>' | '!' | ':' => {
                self.begin(true);
                self.links += 1;
                self.open = true;
            }
            ';' => self.links = 0,
            '\n' if !self.open => self.ended = true,
            _ => {}
        }
        self.bounded()
    }

    /// Something begins: another statement, unless it joins on to the one before.
    fn begin(&mut self, joins: bool) {
        if std::mem::take(&mut self.ended) && !joins {
            self.links = 0;
        }
    }

    fn bounded(&self) -> Result<(), String> {
        if self.depth > DEEPEST {
            return Err(format!(
                "brackets are nested more than {DEEPEST} deep: name the inner parts"
            ));
        }
        if self.links > MOST_LINKS {
            return Err(format!(
                "more than {MOST_LINKS} operators and references in one statement: name the parts"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        let source = Source {
            name: "x.rego".to_owned(),
            text: text.to_owned(),
        };
        !check(&[source]).is_empty()
    }

    #[test]
    fn nesting_is_counted_in_code_and_not_in_strings_or_comments() {
        assert!(refused(&format!("x := {}", "[".repeat(11))));
        assert!(!refused(&format!(
            "x := {}{}",
            "[".repeat(9),
            "]".repeat(9)
        )));
        assert!(!refused(&format!("x := \"{}\"", "[\\\"".repeat(50))));
        assert!(!refused(&format!("x := `{}`", "[".repeat(50))));
        assert!(!refused(&format!("# {}\nx := 1", "[".repeat(50))));
    }

    #[test]
    fn long_chains_are_refused_over_lines_too() {
        assert!(refused(&format!("x := 1{}", " + 1".repeat(100))));
        assert!(refused(&format!("x := 1{}", " +\n 1".repeat(100))));
        assert!(refused(&format!("x := (1{})", "\n+ 1".repeat(100))));
        assert!(refused(&format!("x := {{1}}{}", " | {1}".repeat(100))));
        assert!(refused(&format!("x := \"a\"{}", "\n+ `b`".repeat(100))));
        assert!(refused(&format!("x := a{}", "[0]".repeat(100))));
        assert!(refused(&format!("x := a{}", ".b".repeat(100))));
        assert!(refused(&format!("x if {}true", "not ".repeat(100))));
        assert!(!refused(&"x if input.a.b == 1\n".repeat(100)));
        assert!(!refused(&format!(
            "x if {{\n{}}}",
            "input.a == 1\n".repeat(100)
        )));
    }
}
