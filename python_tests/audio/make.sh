#!/bin/sh
# Makes the recordings of this folder: half a second of a tone of 440 Hz, in formats that soundfile
# does not write. FFmpeg's own sine, so nobody's recording. Last run with ffmpeg 5.1.
set -e
cd "$(dirname "$0")"
tone="ffmpeg -v error -y -f lavfi -i sine=frequency=440:sample_rate=16000:duration=0.5 -fflags +bitexact -flags +bitexact"
$tone -c:a aac -b:a 24k tone.m4a
$tone -c:a aac -b:a 24k tone.aac
$tone -c:a libopus -b:a 16k tone.webm
$tone -c:a wmav2 -b:a 24k tone.wma
$tone -c:a flac tone_flac.ogg
$tone -c:a libspeex -b:a 8k tone_speex.ogg
ffmpeg -v error -y -f lavfi -i color=red:size=16x16:rate=1:duration=1 -fflags +bitexact silent_film.mp4
