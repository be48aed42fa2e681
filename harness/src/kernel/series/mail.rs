// SPDX-License-Identifier: MIT OR Apache-2.0
//! One mail: its header decoded, its text as bytes that a patch can be read from.
//!
//! mail-parser takes the MIME structure apart and decodes headers and transfer encodings. Text is
//! recoded to UTF-8 where the mail declares another charset, as b4 does (git am leaves the bytes); text that
//! is not valid in the charset that it declares stays as it is. format=flowed is undone by the rules of git's
//! mailinfo.c:handle_filter_flowed. A mail without any encoding is taken as it lies there, so that line numbers
//! of errors are its own.

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{
    ContentType, Encoding, HeaderValue, Message, MessageParser, MessagePart, MimeHeaders as _, PartType,
};

use super::error::{MailError, MessagePlace};
use super::mbox::{Raw, is_from_line, to_lf};
use super::tag::Tag;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Where it was found.
    pub place: MessagePlace,
    /// What its subject says.
    pub tag: Tag,
    /// `Name <address>`; empty if it has none.
    pub author: String,
    /// Message-Ids that it answers to.
    pub references: Vec<String>,
    /// Header and decoded body, for [`super::Patch::parse`].
    pub text: Vec<u8>,
    /// What a commit would say below its title.
    pub message: String,
    /// Of the `base-commit:` line.
    pub base_commit: Option<String>,
    /// How many patches the `prerequisite-patch-id:` lines name.
    pub prerequisites: usize,
    /// The charset that it was recoded from.
    pub recoded: Option<String>,
}

impl Mail {
    /// Reads a message. Text without a mail header is a mail without one.
    ///
    /// # Errors
    /// As [`MailError`].
    pub fn read(raw: &Raw) -> Result<Mail, (MessagePlace, MailError)> {
        let mut place = MessagePlace { number: raw.number, line: raw.line, ..MessagePlace::default() };
        // A patch file of its own still has git's `From ` line.
        let from_line =
            raw.bytes.split_inclusive(|byte| *byte == b'\n').next().filter(|line| is_from_line(line));
        let from_line = from_line.map_or(0, <[u8]>::len);
        let bytes = &raw.bytes[from_line..];
        let message = match has_header(bytes) {
            true => match MessageParser::default().parse(bytes) {
                Some(message) => Some(message),
                None => return Err((place, MailError::NoMail)),
            },
            false => None,
        };
        let subject = message.as_ref().and_then(Message::subject).unwrap_or_default();
        place.subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
        message.as_ref().and_then(Message::message_id).unwrap_or_default().clone_into(&mut place.id);
        let body_at = message.as_ref().map_or(0, |message| message.root_part().offset_body as usize);
        let header = &bytes[..body_at.min(bytes.len())];
        let (body, recoded) = match message.as_ref().map(|message| decode(message, bytes)) {
            Some(Err(error)) => return Err((place, error)),
            Some(Ok(Some((body, recoded)))) => (Some(body), recoded),
            Some(Ok(None)) | None => (None, None),
        };
        let text = match &body {
            Some(body) => [header, body.as_slice()].concat(),
            None => raw.bytes.clone(),
        };
        let body = body.as_deref().unwrap_or(&bytes[header.len()..]);
        let lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
        let mut author = message.as_ref().map(author).unwrap_or_default();
        let written = commit_message(&lines, &mut author);
        Ok(Mail {
            tag: Tag::parse(&place.subject),
            author,
            references: message.as_ref().map(references).unwrap_or_default(),
            message: written,
            base_commit: lines.iter().find_map(|line| base_commit(line)),
            prerequisites: lines.iter().filter(|line| line.starts_with(b"prerequisite-patch-id: ")).count(),
            recoded,
            text,
            place,
        })
    }

    /// Whether there is a diff in it that is not quoted.
    pub fn has_diff(&self) -> bool {
        let lines: Vec<&[u8]> = self.text.split(|byte| *byte == b'\n').collect();
        let starts = |line: Option<&&[u8]>, with: &[u8]| line.is_some_and(|line| line.starts_with(with));
        lines.iter().enumerate().any(|(i, line)| {
            line.starts_with(b"diff --git ")
                || line.starts_with(b"--- ")
                    && starts(lines.get(i + 1), b"+++ ")
                    && starts(lines.get(i + 2), b"@@ -")
        })
    }
}

/// `Name: ...` in the first line.
fn has_header(bytes: &[u8]) -> bool {
    let name = bytes.iter().take_while(|byte| matches!(byte, b'!'..=b'~') && **byte != b':').count();
    name > 0 && bytes.get(name) == Some(&b':')
}

type Body = Option<(Vec<u8>, Option<String>)>;

/// The text of all parts, or `None` if the mail's body is its text as it is.
fn decode(message: &Message<'_>, bytes: &[u8]) -> Result<Body, MailError> {
    let plain = |part: &MessagePart<'_>| {
        part.encoding == Encoding::None
            && damaged(part).is_none()
            && charset(part).is_none()
            && !is_flowed(part.content_type())
    };
    if let [root] = message.parts.as_slice()
        && plain(root)
    {
        return Ok(None);
    }
    let (mut text, mut recoded) = (Vec::new(), None);
    for part in message.parts.iter().filter(|part| is_text(part)) {
        if let Some(name) = damaged(part) {
            return Err(MailError::Encoding(name));
        }
        let (start, end) = (part.offset_body as usize, part.offset_end as usize);
        let raw = bytes.get(start..end.min(bytes.len())).unwrap_or_default();
        let mut body = match part.encoding {
            Encoding::None => raw.to_vec(),
            Encoding::QuotedPrintable => {
                quoted_printable_decode(raw).ok_or(MailError::Encoding("quoted-printable"))?
            }
            Encoding::Base64 => base64_decode(raw).ok_or(MailError::Encoding("base64"))?,
        };
        to_lf(&mut body);
        if let Some(name) = charset(part)
            && let Some(decoder) = charset_decoder(name.as_bytes())
        {
            let utf8 = decoder(&body);
            if !utf8.contains('\u{fffd}') {
                body = utf8.into_bytes();
                recoded = Some(name.to_owned());
            }
        }
        if is_flowed(part.content_type()) {
            let delete_space =
                attribute(part.content_type(), "delsp").is_some_and(|yes| yes.eq_ignore_ascii_case("yes"));
            body = unflow(&body, delete_space);
        }
        if !text.is_empty() && text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(&body);
    }
    Ok(Some((text, recoded)))
}

/// The encoding of a part that it could not be decoded from; mail-parser gives that as one without an encoding.
fn damaged(part: &MessagePart<'_>) -> Option<&'static str> {
    let name = part.content_transfer_encoding().filter(|_| part.is_encoding_problem)?;
    ["quoted-printable", "base64"].into_iter().find(|known| name.eq_ignore_ascii_case(known))
}

/// text/plain and its kin, and attached patches.
fn is_text(part: &MessagePart<'_>) -> bool {
    match &part.body {
        PartType::Text(_) => true,
        PartType::Binary(_) | PartType::InlineBinary(_) => {
            let patch_type = part.content_type().and_then(ContentType::subtype);
            let patch_type =
                patch_type.is_some_and(|subtype| subtype.contains("patch") || subtype.contains("diff"));
            let patch_name = |name: &str| name.ends_with(".patch") || name.ends_with(".diff");
            patch_type || part.attachment_name().is_some_and(patch_name)
        }
        _ => false,
    }
}

fn attribute<'a>(content_type: Option<&'a ContentType<'_>>, name: &str) -> Option<&'a str> {
    content_type?.attribute(name)
}

/// The declared charset, if there is anything to recode.
fn charset<'a>(part: &'a MessagePart<'_>) -> Option<&'a str> {
    let name = attribute(part.content_type(), "charset")?;
    let utf8 = ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|utf8| name.eq_ignore_ascii_case(utf8));
    (!utf8 && !name.is_empty()).then_some(name)
}

fn is_flowed(content_type: Option<&ContentType<'_>>) -> bool {
    attribute(content_type, "format").is_some_and(|format| format.eq_ignore_ascii_case("flowed"))
}

/// RFC 3676: a line that ends with a space goes on in the next one, and a leading space is stuffing.
fn unflow(body: &[u8], delete_space: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        if content == b"-- " {
            if text.last().is_some_and(|byte| *byte != b'\n') {
                text.push(b'\n');
            }
            text.extend_from_slice(line);
            continue;
        }
        let content = content.strip_prefix(b" ").unwrap_or(content);
        match content.strip_suffix(b" ") {
            Some(short) => text.extend_from_slice(if delete_space { short } else { content }),
            None => {
                text.extend_from_slice(content);
                text.extend_from_slice(&line[line.len() - usize::from(line.ends_with(b"\n"))..]);
            }
        }
    }
    text
}

fn author(message: &Message<'_>) -> String {
    let Some(from) = message.from().and_then(|from| from.first()) else { return String::new() };
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match (from.name().map(words), from.address().map(words)) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (None, Some(address)) => format!("<{address}>"),
        (Some(name), None) => name,
        (None, None) => String::new(),
    }
}

fn references(message: &Message<'_>) -> Vec<String> {
    let ids = |value: &HeaderValue<'_>| match value {
        HeaderValue::Text(id) => vec![id.to_string()],
        HeaderValue::TextList(ids) => ids.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    [ids(message.in_reply_to()), ids(message.references())].concat()
}

fn base_commit(line: &[u8]) -> Option<String> {
    let rest = String::from_utf8_lossy(line.strip_prefix(b"base-commit: ")?).trim().to_owned();
    let hex = rest.len() >= 7 && rest.len() <= 64 && rest.bytes().all(|c| c.is_ascii_hexdigit());
    hex.then(|| rest.to_ascii_lowercase())
}

/// What stands before `---` or the diff, less the header lines with which a body may begin; its `From:` is the
/// author.
fn commit_message(lines: &[&[u8]], author: &mut String) -> String {
    let end = lines.iter().enumerate().position(|(i, line)| {
        line.trim_ascii_end() == b"---"
            || line.starts_with(b"diff --git ")
            || line.starts_with(b"--- ") && lines.get(i + 1).is_some_and(|next| next.starts_with(b"+++ "))
    });
    let text: Vec<String> = lines[..end.unwrap_or(lines.len())]
        .iter()
        .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
        .skip_while(String::is_empty)
        .collect();
    let in_body =
        |line: &&String| ["From: ", "Subject: ", "Date: "].iter().any(|name| line.starts_with(name));
    let headers = text.iter().take_while(in_body).count();
    for from in text[..headers].iter().filter_map(|line| line.strip_prefix("From: ")) {
        author.clear();
        author.push_str(from.trim());
    }
    text[headers..].join("\n").trim().to_owned()
}
