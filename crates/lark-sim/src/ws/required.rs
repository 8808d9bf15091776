//! Check of required fields on the wire: a decoder that fills absent fields with zero cannot detect their absence.

/// Fails with the reason when bytes are not a frame of `pbbp2`.
pub(crate) fn check(frame: &[u8]) -> Result<(), String> {
    let mut seen = [false; 4];
    for field in Fields(frame) {
        let (number, value) = field?;
        match number {
            1..=4 => seen[number as usize - 1] = true,
            5 => check_header(value)?,
            _ => {}
        }
    }
    let names = ["SeqID", "LogID", "service", "method"];
    match seen.iter().position(|seen| !seen) {
        Some(missing) => Err(format!("required field {} is missing", names[missing])),
        None => Ok(()),
    }
}

fn check_header(header: &[u8]) -> Result<(), String> {
    let mut seen = [false; 2];
    for field in Fields(header) {
        if let (number @ 1..=2, _) = field? {
            seen[number as usize - 1] = true;
        }
    }
    if seen == [true; 2] { Ok(()) } else { Err("a header lacks its key or value".to_owned()) }
}

/// The fields of one protobuf message: number and, for length-delimited ones, the bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "not a protobuf message".to_owned()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, &'a [u8])> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => {
                self.varint()?;
                &[][..]
            }
            1 => self.take(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length)?
            }
            5 => self.take(4)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        prost::encoding::decode_varint(&mut self.0).ok()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use larkauth_lark::frame::{Frame, Header};
    use prost::Message;

    use super::*;

    #[test]
    fn check_of_frame_without_required_field_returns_its_name() {
        let frame = Frame { headers: vec![Header::new("type", "ping")], ..Frame::default() };
        assert_eq!(check(&frame.encode_to_vec()), Ok(()));
        // The same frame from a proto3 encoder: zeros are omitted.
        let mut proto3 = vec![0x2a, 0x0c];
        proto3.extend(Header::new("type", "ping").encode_to_vec());
        assert_eq!(check(&proto3), Err("required field SeqID is missing".to_owned()));
        assert!(check(&[8, 0, 16, 0, 24, 0]).unwrap_err().contains("method"));
        assert!(check(&[8, 0, 16, 0, 24, 0, 32, 0, 0x2a, 2, 0x0a, 0]).unwrap_err().contains("header"));
        assert!(check(&[0xff]).is_err());
    }
}
