//! QR codes decode back to their text, however they are drawn and whatever the terminal's own colours are.
#![allow(clippy::unwrap_used)]

#[path = "support/screen.rs"]
mod screen;

use haul::qr::{Blocks, Correction, QUIET_MODULES, Qr};
use haul::secret::{Key, Link, Room};
use screen::{DARK, LIGHT, Picture, photograph};
use std::net::SocketAddr;

const PIXELS: usize = 3;

/// A link with random-looking secrets; some characters of base32 take more room than others in no mode.
fn link(seed: u8, addresses: &[&str]) -> String {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let bytes = |step: u8| std::array::from_fn(|at| seed.wrapping_add(1).wrapping_mul(step).wrapping_mul(at as u8 + 3));
    Link::new(&addresses, Room::from_bytes(bytes(37)), Key::from_bytes(bytes(91))).unwrap().to_text().to_string()
}

fn links() -> Vec<String> {
    let sets: [&[&str]; 4] = [
        &["192.168.1.23:4285"],
        &["10.0.0.5:65535", "192.168.100.200:65535"],
        &["[fd12:3456:789a:bcde:f012:3456:789a:bcde]:65535"],
        &["10.0.0.5:1", "10.0.0.6:1", "10.0.0.7:1", "10.0.0.8:1", "[fd00::1]:1"],
    ];
    (0..20).flat_map(|seed| sets.iter().map(move |set| link(seed, set))).collect()
}

#[test]
fn what_a_terminal_shows_decodes_to_the_link_in_dark_and_light() {
    for link in links() {
        for correction in [Correction::Medium, Correction::Low] {
            let qr = Qr::of(&link, correction).unwrap();
            for blocks in [Blocks::Half, Blocks::Spaces] {
                let (columns, rows) = qr.cells(blocks);
                let text = qr.to_terminal(blocks);
                assert_eq!(text.lines().count(), rows);
                for theme in [DARK, LIGHT] {
                    let screen = (columns + 7, rows + 2);
                    assert_eq!(photograph(&text, screen, theme).read(), [link.as_str()], "{blocks:?} {theme:?}");
                }
            }
        }
    }
}

#[test]
fn a_terminal_without_unicode_gets_none() {
    let qr = Qr::of(&links()[0], Correction::Medium).unwrap();
    assert!(qr.to_terminal(Blocks::Spaces).is_ascii());
}

#[test]
fn every_line_sets_its_own_colours_and_sets_them_back() {
    let qr = Qr::of(&links()[0], Correction::Medium).unwrap();
    for blocks in [Blocks::Half, Blocks::Spaces] {
        for line in qr.to_terminal(blocks).lines() {
            assert!(line.starts_with("\x1b[0;") && line.ends_with("\x1b[0m"), "{line:?}");
        }
    }
}

#[test]
fn a_link_of_one_address_fits_a_terminal_of_80_by_24_with_medium_correction() {
    for seed in 0..200 {
        let qr = Qr::of(&link(seed, &["192.168.100.200:65535"]), Correction::Medium).unwrap();
        assert_eq!(qr.cells(Blocks::Half), (41, 21));
        let qr = Qr::of(&link(seed, &["192.168.1.23:4285", "10.0.0.5:4285"]), Correction::Low).unwrap();
        assert_eq!(qr.cells(Blocks::Half), (41, 21));
    }
}

#[test]
fn a_picture_decodes_to_the_link_and_has_its_quiet_zone() {
    for link in links() {
        let qr = Qr::of(&link, Correction::Medium).unwrap();
        for picture in [svg(&qr), png(&qr)] {
            assert_eq!(picture.read(), [link.as_str()]);
            let quiet = picture.width * QUIET_MODULES / qr.side();
            let is_quiet = |at: usize, length: usize| at < quiet || at >= length - quiet;
            for (at, &pixel) in picture.pixels.iter().enumerate() {
                let (x, y) = (at % picture.width, at / picture.width);
                assert!(pixel == 255 || !(is_quiet(x, picture.width) || is_quiet(y, picture.height)), "{x} {y}");
            }
        }
    }
}

#[test]
fn a_text_longer_than_any_code_has_none() {
    assert!(Qr::of(&"A".repeat(5000), Correction::Low).is_err());
}

#[test]
fn debug_output_holds_no_module() {
    assert_eq!(format!("{:?}", Qr::of(&links()[0], Correction::Medium).unwrap()), "Qr([redacted], 33 modules)");
}

/// The picture that an SVG file describes: a white square, and black squares of one module on it.
fn svg(qr: &Qr) -> Picture {
    let text = qr.to_svg();
    let between = |text: &str, start: &str, end: &str| {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0.to_owned()
    };
    let view = between(&text, "viewBox=\"", "\"");
    let side = qr.side();
    assert_eq!(view, format!("0 0 {side} {side}"));
    assert!(text.contains(&format!("<rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/>")));
    let width = side * PIXELS;
    let mut pixels = vec![255; width * width];
    for square in between(&text, "<path fill=\"#000\" d=\"", "\"").split('M').skip(1) {
        let (x, y) = square.strip_suffix("h1v1h-1z").unwrap().split_once(' ').unwrap();
        let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
        for row in y * PIXELS..(y + 1) * PIXELS {
            pixels[row * width + x * PIXELS..][..PIXELS].fill(0);
        }
    }
    Picture { width, height: width, pixels }
}

fn png(qr: &Qr) -> Picture {
    let file = qr.to_png().unwrap();
    let mut decoder = png::Decoder::new(std::io::Cursor::new(&**file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Grayscale);
    Picture { width: frame.width as usize, height: frame.height as usize, pixels }
}
