//! A payload as columns.

/// Most columns of a record that is looked at; our tables have six at most.
const COLUMNS_MAX: usize = 8;

/// The value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Value<'a> {
    /// Nothing; also stands where the key of the row is the column.
    Null,
    /// A whole number.
    Int(i64),
    /// Bytes.
    Blob(&'a [u8]),
    /// Text that is UTF-8.
    Text(&'a str),
}

/// Takes a number of 1 to 9 bytes off the front.
pub(super) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for index in 0..9 {
        let byte = *rest.get(index)?;
        if index == 8 {
            number = number << 8 | u64::from(byte);
        } else {
            number = number << 7 | u64::from(byte & 0x7F);
            if byte & 0x80 != 0 {
                continue;
            }
        }
        *rest = rest.get(index + 1..)?;
        return Some(number);
    }
    None
}

/// The columns of a payload; `None` if it is no record, or does not end with its last column.
pub(in crate::store) fn columns(payload: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut types = payload;
    let length = usize::try_from(take_varint(&mut types)?).ok()?;
    let used = payload.len() - types.len();
    let mut types = payload.get(used..length)?;
    let mut content = payload.get(length..)?;
    let mut values = Vec::with_capacity(4);
    while !types.is_empty() {
        if values.len() >= COLUMNS_MAX {
            return None;
        }
        let serial = take_varint(&mut types)?;
        let width = match serial {
            0 | 8 | 9 => 0,
            1..=4 => serial,
            5 => 6,
            6 => 8,
            12.. => (serial - 12) / 2,
            _ => return None,
        };
        let (value, after) = content.split_at_checked(usize::try_from(width).ok()?)?;
        content = after;
        values.push(match serial {
            0 => Value::Null,
            8 => Value::Int(0),
            9 => Value::Int(1),
            1..=6 => Value::Int(integer(value)),
            _ if serial % 2 == 0 => Value::Blob(value),
            _ => Value::Text(std::str::from_utf8(value).ok()?),
        });
    }
    content.is_empty().then_some(values)
}

/// A big endian number of up to 8 bytes with its sign.
fn integer(bytes: &[u8]) -> i64 {
    let start = if bytes.first().is_some_and(|first| first & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(start, |number: i64, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_lengths_are_read_and_short_ones_refused() {
        let check = |bytes: &[u8], expected: Option<u64>| {
            let mut rest = bytes;
            assert_eq!(take_varint(&mut rest), expected, "{bytes:02X?}");
        };
        check(&[0x7F], Some(127));
        check(&[0x81, 0x00], Some(128));
        check(&[0xFF; 9], Some(u64::MAX));
        check(&[0x81; 8], None);
        check(&[], None);
    }

    #[test]
    fn a_record_ends_with_its_last_column() {
        let whole = [4, 0, 1, 16, 0xFE, b'a', b'b'];
        assert_eq!(columns(&whole), Some(vec![Value::Null, Value::Int(-2), Value::Blob(b"ab")]));
        for length in 0..whole.len() {
            assert_eq!(columns(&whole[..length]), None);
        }
        assert_eq!(columns(&[&whole[..], b"c"].concat()), None);
        assert_eq!(columns(&[2, 17, 0xFF, 0xFE]), None, "no UTF-8");
        assert_eq!(columns(&[10, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "too many columns");
    }
}
