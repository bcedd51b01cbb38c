"""Make synthetic English speech for pretraining: FLAC recordings and a manifest, by espeak-ng.

    python experiments/make_espeak_speech.py runs/espeak --librispeech ../shared/data/librispeech

A third of the texts are sentences from a small grammar, a third are words from its word list in
any order, and a third are pieces of the transcripts of LibriSpeech's train split, so that nothing
from the evaluated corpora leaks into them. Voice, speed, pitch, size of the speaker, room,
microphone and noise are drawn for each recording.

Every draw depends only on --seed and the recording's number: the same versions of espeak-ng (a
system package: ``apt-get install espeak-ng``), libsndfile and soxr write the same files again. The
manifest is written last; once it is there, the folder is complete.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16000
MAX_SECONDS = 6.0

LANGUAGES = (
    "en-us",
    "en-us",
    "en-us",
    "en-gb",
    "en-gb-x-rp",
    "en-us-nyc",
    "en-gb-scotland",
    "en-029",
)
VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *("Andrea", "Alicia", "Annie", "belinda", "linda", "aunty", "steph", "zac", "adam", "david"),
    *("klatt", "klatt2", "klatt3", "klatt4"),
)

SUBJECTS = """
    i you we they | the children | my friends | the boys | the girls | some people | our teachers
    | the students | those men | the women | these birds | many animals | his brothers
"""
SINGULARS = """
    he she it | my mother | my father | his sister | her brother | the teacher | the old man
    | the little girl | the boy | our doctor | that woman | the dog | a white cat | the bird
    | my uncle | your aunt | the king | mary | tom | peter | lucy | john | anna | david | jack
    | kate
"""
VERBS = """
    like:likes:liked want:wants:wanted need:needs:needed see:sees:saw know:knows:knew
    make:makes:made take:takes:took find:finds:found give:gives:gave buy:buys:bought eat:eats:ate
    have:has:had hold:holds:held bring:brings:brought keep:keeps:kept love:loves:loved
    watch:watches:watched hear:hears:heard read:reads:read write:writes:wrote wash:washes:washed
    clean:cleans:cleaned open:opens:opened close:closes:closed carry:carries:carried
    choose:chooses:chose break:breaks:broke draw:draws:drew lose:loses:lost sell:sells:sold
    show:shows:showed help:helps:helped follow:follows:followed remember:remembers:remembered
    forget:forgets:forgot leave:leaves:left build:builds:built change:changes:changed
    learn:learns:learned start:starts:started finish:finishes:finished visit:visits:visited
"""
NOUNS = """
    book pen apple orange banana egg cake bread rice fish chicken milk water tea coffee juice hat
    coat shirt dress shoe bag box ball toy car bus train bike boat plane ship house home room door
    window table chair bed desk wall floor garden tree flower leaf grass river lake sea beach
    mountain hill road street bridge city town village country farm school class lesson teacher
    student friend family mother father sister brother baby child man woman boy girl doctor nurse
    farmer driver cook singer writer dog cat bird horse cow pig sheep duck bear lion tiger monkey
    elephant rabbit mouse panda snake head face eye ear nose mouth hand arm leg foot hair heart
    picture photo letter word name number question answer story song game film movie party present
    birthday holiday weather rain snow wind cloud sun moon star sky morning evening night day week
    month year summer winter spring clock watch phone computer computer machine key knife cup glass
    plate bottle spoon dinner lunch breakfast market shop store hotel hospital museum library park
    zoo station office company money price job work idea problem reason plan dream life world war
    peace news paper language history music art science sport football basketball tennis chance
    change choice danger doubt end fact fire gold government group health hope hour kind land law
    light line list love market matter meeting member mind minute moment nature party past pain
    place point power question rest result sense side sign sound space state step stone team thing
    thought time tomorrow trouble truth turn use view visit voice way wife wood yard
"""
ADJECTIVES = """
    big small little long short tall old new young good bad nice kind happy sad angry tired hungry
    hot cold warm cool wet dry fast slow easy hard difficult important interesting beautiful pretty
    clean dirty full empty rich poor strong weak heavy light dark bright red blue green yellow
    white black brown pink great wonderful terrible funny clever busy free ready sick well fine
    right wrong true same different early late quiet loud cheap expensive dangerous safe famous
    favorite certain clear common deep final general human local main national natural own
    political possible private public real recent serious simple special sure usual whole
"""
ADVERBS = """
    now then today tomorrow yesterday again always never often sometimes usually really very much
    well fast slowly quickly carefully together here there everywhere outside inside upstairs
    already soon later early still just only even almost perhaps maybe certainly finally quite
    rather once twice away back down up forward ago yet too enough
"""
PLACES = """
    at home | at school | in the park | in the garden | in the kitchen | on the table | in the box
    | under the tree | near the river | by the window | in the city | on the farm | at the zoo
    | in the classroom | in the morning | in the evening | at night | on sunday | on monday
    | on friday | last night | last week | next year | every day | every morning | after school
    | before dinner | this afternoon | for a long time | in the world | with my friends
    | with his mother | at the station | in australia | in china | in america | in england
    | behind the door | between the houses | over there | at six o'clock | at half past seven
"""
OTHER_WORDS = """
    a an the and but or so because if when while where who what which why how whose this that these
    those there here my your his her its our their mine yours me him us them myself himself
    everyone somebody nobody something nothing everything anything all any both each every few many
    more most other another some such no not only own same than too can could may might must shall
    should will would am is are was were be been being do does did done have has had having get gets
    got go goes went gone going come comes came coming say says said tell told ask asked think
    thought believe feel felt look looked looking try tried turn turned call called run ran walk
    walked sit sat stand stood sleep slept wait waited speak spoke talk talked play played playing
    swim swam fly flew jump sing sang dance laugh cry smile die died live lived grow grew fall fell
    rise drive drove ride rode wear wore pay paid send sent meet met win won wonder guess mean meant
    seem seems happen happened agree decide understand explain continue of in on at to for from with
    by about into over under after before between through during without against around near behind
    across along among above below off out until since as like zero one two three four five six
    seven eight nine ten eleven twelve thirteen fifteen twenty thirty forty fifty hundred thousand
    million first second third last next half monday tuesday wednesday thursday friday saturday
    sunday january march april june july august september october december i'm you're he's she's
    it's we're they're i've i'll don't doesn't didn't can't won't isn't aren't wasn't that's what's
    there's let's who's o'clock yes no please thanks thank hello goodbye sorry okay oh welcome
    english chinese american british french german australian china america england london
    beijing africa europe mister missus sir madam
"""


class Texts:
    """Texts to read: from the grammar, from the word list, and pieces of other transcripts."""

    def __init__(self, transcripts: list[str]) -> None:
        self.transcripts = [transcript.split() for transcript in transcripts]
        self.plurals = _phrases(SUBJECTS)
        self.singulars = _phrases(SINGULARS)
        self.verbs = [tuple(forms.split(":")) for forms in VERBS.split()]
        self.nouns = NOUNS.split()
        self.adjectives = ADJECTIVES.split()
        self.adverbs = ADVERBS.split()
        self.places = _phrases(PLACES)
        listed = [*self.nouns, *self.adjectives, *self.adverbs, *OTHER_WORDS.split()]
        listed += [form for forms in self.verbs for form in forms]
        self.words = sorted(set(listed))

    def draw(self, rng: np.random.Generator) -> str:
        """One text of two to about nine words."""
        kind = rng.integers(3)
        if kind == 0:
            return self._sentence(rng)
        if kind == 1:
            return " ".join(rng.choice(self.words, size=rng.integers(2, 6)))
        transcript = self.transcripts[rng.integers(len(self.transcripts))]
        length = min(int(rng.integers(2, 9)), len(transcript))
        start = int(rng.integers(len(transcript) - length + 1))
        return " ".join(transcript[start : start + length])

    def _sentence(self, rng: np.random.Generator) -> str:
        def one(choices: list[str]) -> str:
            return choices[int(rng.integers(len(choices)))]

        def thing() -> str:
            adjective = one(self.adjectives) + " " if rng.random() < 0.4 else ""
            article = one(["the", "the", "this", "that", "my", "your", "his", "her", "our", "a"])
            noun = adjective + one(self.nouns)
            return f"{'an' if article == 'a' and noun[0] in 'aeiou' else article} {noun}"

        base, third, past = self.verbs[int(rng.integers(len(self.verbs)))]
        plural, singular = one(self.plurals), one(self.singulars)
        modals = ["can", "will", "must", "should", "could", "may"]
        tail = rng.choice(["", " " + one(self.places), " " + one(self.adverbs)])
        be = "am" if plural == "i" else "are"
        sentence = one(
            [
                f"{plural} {base} {thing()}",
                f"{singular} {third} {thing()}",
                f"{one([plural, singular])} {past} {thing()}",
                f"{plural} {one(modals)} {base} {thing()}",
                f"{singular} {one(['cannot', 'would', 'will', 'did not'])} {base} {thing()}",
                f"do you {base} {thing()}",
                f"does {singular} {base} {thing()}",
                f"did {one([plural, singular])} {base} {thing()}",
                f"{one(['what', 'when', 'why', 'how', 'where'])} did {singular} {base} {thing()}",
                f"{plural} {be} {one(['very ', 'so ', 'too ', 'not ', ''])}{one(self.adjectives)}",
                f"{singular} {one(['is', 'was'])} {one(['very ', 'so ', ''])}"
                f"{one(self.adjectives)}",
                f"{thing()} {one(['is', 'was', 'looks', 'will be'])} {one(self.adjectives)}",
                f"there {one(['is', 'was'])} a {one(self.nouns)}",
                f"it {one(['is', 'was'])} {thing()}",
                f"{plural} want to {base} {thing()}",
                f"let's {base} {thing()}",
                f"please {base} {thing()}",
                f"{one(['where', 'what', 'who'])} {one(['is', 'was'])} {thing()}",
                f"{singular} {one(['went', 'came', 'ran', 'walked'])} to {thing()}",
            ]
        )
        return sentence + str(tail)


def synthesize(text: str, rng: np.random.Generator, scratch: Path) -> NDArray[np.float64]:
    """The text spoken by one of the voices, at ``SAMPLE_RATE_HZ``.

    Raises:
        subprocess.CalledProcessError: espeak-ng failed.
    """
    voice = f"{rng.choice(LANGUAGES)}+{rng.choice(VARIANTS)}"
    # Played faster, a voice sounds like that of a smaller head: half of the readers are children.
    size = float(rng.uniform(0.92, 1.35))
    speed = int(rng.uniform(105, 175) / size)
    options = ["-v", voice, "-s", str(max(speed, 80)), "-p", str(rng.integers(25, 75))]
    options += ["-g", str(rng.choice([0, 0, 1, 3]))]
    command = ["espeak-ng", *options, "-w", str(scratch), "--", text]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    speech, rate = soundfile.read(scratch)
    return np.asarray(soxr.resample(speech, rate * size, SAMPLE_RATE_HZ), dtype=np.float64)


def record(speech: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The speech as a telephone in a room records it: pauses, echo, frequency response, noise."""
    before, after = rng.uniform(0.1, 0.6, 2)
    padded = np.pad(speech, (int(before * SAMPLE_RATE_HZ), int(after * SAMPLE_RATE_HZ)))
    count = len(padded)
    decay_seconds = rng.uniform(0.03, 0.12)
    times = np.arange(int(0.4 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    echo = rng.standard_normal(len(times)) * np.exp(-times / decay_seconds)
    echo *= rng.uniform(0.05, 0.6) / np.sqrt(np.sum(echo**2))
    echo[0] += 1.0
    size = count + len(echo)
    frequencies = np.linspace(0, 1, size // 2 + 1)
    response_db = np.interp(frequencies, np.linspace(0, 1, 9), rng.normal(0, 4, 9))
    spectrum = np.fft.rfft(padded, size) * np.fft.rfft(echo, size) * 10 ** (response_db / 20)
    heard = np.fft.irfft(spectrum, size)[:count]
    color = 1 / (frequencies + 0.02) ** rng.uniform(0, 1)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * color, size)[:count]
    snr_db = rng.uniform(12, 45)
    noise *= np.sqrt(np.mean(heard**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    mixed = heard + noise
    return np.asarray(mixed * (10 ** rng.uniform(-1.0, -0.05) / np.abs(mixed).max()))


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--librispeech", type=Path, required=True, help="folder of that corpus")
    parser.add_argument("--recordings", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng: not found; on Debian and Ubuntu: apt-get install espeak-ng")
    lines = (arguments.librispeech / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    texts = Texts([r["text"] for r in records if r["split"] == "train"])
    manifest = arguments.out / "manifest.jsonl"
    manifest.unlink(missing_ok=True)
    (arguments.out / "flac").mkdir(parents=True, exist_ok=True)
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.recordings):
            rng = np.random.default_rng([arguments.seed, number])
            text = texts.draw(rng)
            speech = synthesize(text, rng, Path(scratch, "speech.wav"))
            if len(speech) > (MAX_SECONDS - 1.2) * SAMPLE_RATE_HZ:
                continue
            name = f"flac/{number:05}.flac"
            samples = record(speech, rng)
            soundfile.write(arguments.out / name, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
            seconds = round(len(samples) / SAMPLE_RATE_HZ, 4)
            made.append({"audio_filepath": name, "duration": seconds, "text": text})
            if number % 500 == 499:
                print(f"{number + 1}/{arguments.recordings}", file=sys.stderr)
    partial = manifest.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in made), encoding="utf-8")
    os.replace(partial, manifest)
    hours = sum(line["duration"] for line in made) / 3600
    print(f"{manifest}: {len(made)} recordings, {hours:.2f} hours")


def _phrases(text: str) -> list[str]:
    """Phrases between bars; before the first bar, single words."""
    first, *others = text.split("|")
    return [*first.split(), *(" ".join(other.split()) for other in others)]


if __name__ == "__main__":
    main()
