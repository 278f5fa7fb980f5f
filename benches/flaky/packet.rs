//! What the link reads of an IPv4 packet: its TCP flow, its payload, and the reset that a middle box answers with.

/// Addresses and ports, the smaller end first: both directions of a connection are one flow.
pub(crate) type Flow = ([u8; 6], [u8; 6]);

const RST: u8 = 4;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// More than any window.
const LONG_PAST: u32 = 1 << 28;

/// A TCP segment in its IPv4 packet.
pub(crate) struct Segment<'a> {
    packet: &'a [u8],
    /// Where the TCP header starts.
    tcp: usize,
    pub(crate) payload_bytes: usize,
}

impl<'a> Segment<'a> {
    /// None where the packet is anything else.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        let first = *packet.first()?;
        let tcp = usize::from(first & 15) * 4;
        if first >> 4 != 4 || *packet.get(9)? != 6 || packet.len() < tcp + 20 {
            return None;
        }
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let header = usize::from(packet[tcp + 12] >> 4) * 4;
        Some(Self { packet, tcp, payload_bytes: total.checked_sub(tcp + header)? })
    }

    pub(crate) fn flow(&self) -> Flow {
        let end = |address: usize, port: usize| {
            let (address, port) =
                (&self.packet[address..address + 4], &self.packet[self.tcp + port..self.tcp + port + 2]);
            [address[0], address[1], address[2], address[3], port[0], port[1]]
        };
        let (from, to) = (end(12, 0), end(16, 2));
        (from.min(to), from.max(to))
    }

    /// The IPv4 address that it goes to.
    pub(crate) fn target(&self) -> [u8; 4] {
        self.packet[16..20].try_into().expect("four bytes")
    }

    pub(crate) fn opens(&self) -> bool {
        self.flags() & (SYN | ACK) == SYN
    }

    /// A reset for who sent this, and a question for who was to get it; the answer to that gets its own reset, with the
    /// number that makes it believed. A reset gets no answer.
    pub(crate) fn refusal(&self) -> Option<[Vec<u8>; 2]> {
        if self.flags() & RST != 0 {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(self.packet[at..at + 4].try_into().expect("four bytes"));
        let (from, to) = (&self.packet[12..16], &self.packet[16..20]);
        let (source, target) = (&self.packet[self.tcp..self.tcp + 2], &self.packet[self.tcp + 2..self.tcp + 4]);
        let length = u32::try_from(self.payload_bytes).expect("a packet is shorter than 64 KiB");
        let (sent, acknowledged) = (word(self.tcp + 4), word(self.tcp + 8));
        // A reset is believed at the byte that is expected next. A byte long past is answered with that byte's number.
        let back = segment([to, from, target, source], acknowledged, sent.wrapping_add(length), RST | ACK);
        let onward = segment([from, to, source, target], sent.wrapping_sub(LONG_PAST), acknowledged, ACK);
        Some([back, onward])
    }

    fn flags(&self) -> u8 {
        self.packet[self.tcp + 13]
    }
}

/// A segment without payload. Its addresses and ports are in the order of their headers.
fn segment(ends: [&[u8]; 4], sequence: u32, acknowledged: u32, flags: u8) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = 6;
    packet.extend(ends.concat());
    packet.extend(sequence.to_be_bytes());
    packet.extend(acknowledged.to_be_bytes());
    packet.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
    let header = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let whole = checksum(&[&packet[12..20], &[0, 6, 0, 20], &packet[20..]]);
    packet[36..38].copy_from_slice(&whole.to_be_bytes());
    packet
}

/// The checksum of RFC 1071 over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.77.0.2:40000 to 10.77.0.1:9000, with `payload` bytes.
    fn tcp(flags: u8, payload: u8) -> Vec<u8> {
        let mut packet = vec![0; 40 + usize::from(payload)];
        packet[..4].copy_from_slice(&[0x45, 0, 0, 40 + payload]);
        packet[9] = 6;
        packet[12..20].copy_from_slice(&[10, 77, 0, 2, 10, 77, 0, 1]);
        packet[20..24].copy_from_slice(&[0x9c, 0x40, 0x23, 0x28]);
        packet[24..32].copy_from_slice(&[0, 0, 0, 9, 0, 0, 1, 0]);
        packet[32] = 0x50;
        packet[33] = flags;
        packet
    }

    #[test]
    fn a_segment_is_read() {
        let packet = tcp(SYN, 7);
        let read = Segment::parse(&packet).unwrap();
        assert_eq!(read.payload_bytes, 7);
        assert_eq!(read.target(), packet[16..20]);
        assert!(read.opens());
        assert!(!Segment::parse(&tcp(SYN | ACK, 0)).unwrap().opens());
        assert!(Segment::parse(&packet[..30]).is_none());
        assert!(Segment::parse(&[]).is_none());
    }

    #[test]
    fn a_refusal_has_the_expected_numbers_and_good_sums() {
        let packet = tcp(ACK, 3);
        let read = Segment::parse(&packet).unwrap();
        let [back, onward] = read.refusal().unwrap();
        assert_eq!(back[12..24], [10, 77, 0, 1, 10, 77, 0, 2, 0x23, 0x28, 0x9c, 0x40]);
        assert_eq!(back[24..32], [0, 0, 1, 0, 0, 0, 0, 12]);
        assert_eq!(onward[12..24], packet[12..24]);
        assert_eq!(onward[24..32], [0xf0, 0, 0, 9, 0, 0, 1, 0]);
        for made in [&back, &onward] {
            let parsed = Segment::parse(made).unwrap();
            assert_eq!((parsed.flow(), parsed.payload_bytes), (read.flow(), 0));
            assert_eq!(checksum(&[&made[..20]]), 0);
            assert_eq!(checksum(&[&made[12..20], &[0, 6, 0, 20], &made[20..]]), 0);
        }
        assert!(Segment::parse(&back).unwrap().refusal().is_none(), "a reset gets no answer");
    }
}
