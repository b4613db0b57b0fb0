//! Hostile bytes.

/// Messages that attack a terminal. Each is short enough not to be truncated; none contains a newline.
pub(crate) fn hostile() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = commands();
    let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    all.extend(bytes.chunks(5).map(<[u8]>::to_vec));
    all.extend(
        strange()
            .chunks(5)
            .map(|few| few.iter().collect::<String>().into_bytes()),
    );
    all
}

/// Characters that terminals execute, that hide text or change its direction, and their neighbours; none is a newline.
fn strange() -> Vec<char> {
    let chars = ('\0'..='\u{2ff}')
        .chain('\u{2028}'..='\u{202e}')
        .chain('\u{2060}'..='\u{206f}')
        .chain('\u{200b}'..='\u{200f}')
        .chain("\u{61c}\u{feff}\u{180e}\u{e0001}\u{e007f}".chars())
        .filter(|c| *c != '\n');
    chars.collect()
}

/// All of them in one text, which is not a path and has no NUL, since arguments cannot have one.
pub(crate) fn characters() -> Vec<u8> {
    let argument = strange().into_iter().filter(|c| !"\0/".contains(*c));
    argument.collect::<String>().into_bytes()
}

/// Escape sequences, as seven-bit and eight-bit controls and in UTF-8.
pub(crate) fn commands() -> Vec<Vec<u8>> {
    [
        &b"\x1b[2J\x1b[H"[..],
        b"\x1b[6n\x1b[c",
        b"\x1b]0;title\x07",
        b"\x1b]8;;http://x\x1b\\y",
        b"\x1b]52;c;aGk=\x07",
        b"\x1bP1$qm\x1b\\",
        b"\x1b_apc\x1b\\",
        b"\x1b^pm\x1b\\",
        b"\x1bc\x1b7\x1b(0",
        b"\x9b2J\x9d0;t\x9c",
        b"\xc2\x9b2J\xc2\x9d0;t\x07",
        b"\x1b[31mred\x1b[?1049h",
        b"a\x08b\rc\x07\x0b\x0c\x0e\x0f",
        b"\xe2\x80\xaeevil\xe2\x81\xa6x",
        b"\xf3\xa0\x81\x81\xef\xbb\xbf",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// The same, each on a line of its own.
pub(crate) fn hostile_lines() -> Vec<u8> {
    let mut lines = Vec::new();
    for message in hostile() {
        lines.extend(message);
        lines.push(b'\n');
    }
    lines
}

/// Messages that would start a new line and forge an event on it.
pub(crate) fn forging() -> Vec<Vec<u8>> {
    let forged = r#"{"ev":"exchange","id":9999,"forged":true}"#;
    [
        "\n", "\r\n", "\u{2028}", "\u{85}", "\"}\n", "\\\"}\n", "\0\n",
    ]
    .iter()
    .flat_map(|line_end| {
        let text = format!("x{line_end}{forged}{line_end}");
        [
            text.clone().into_bytes(),
            [text.as_bytes(), b"\xff"].concat(),
        ]
    })
    .chain(hostile())
    .collect()
}

pub(crate) fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let frame = |message: &Vec<u8>| [&(message.len() as u16).to_be_bytes(), &message[..]].concat();
    messages.iter().flat_map(frame).collect()
}
