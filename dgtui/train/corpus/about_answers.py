"""The answers of `about`, with the phrasings of each question."""

# intent: (answer, phrasings in lower case without a question mark)
# fmt: off
INTENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "what": (
        "dgtui is a terminal program for text diffusion: it fills a canvas of 256 tokens with noise and refines "
        "all of it at once.",
        ("what is dgtui", "what does dgtui do", "explain dgtui", "tell me about dgtui", "what kind of program is this",
         "what is this program", "describe dgtui", "what is dgtui for"),
    ),
    "who": (
        "I am the small model that ships inside dgtui: a toy sibling of DiffusionGemma, trained on a CPU in "
        "a few hours.",
        ("who are you", "what are you", "what model are you", "which model is this", "what is your name",
         "introduce yourself", "tell me about yourself", "are you a language model"),
    ),
    "can": (
        "I can tell a short tale, sort words, turn a sentence into JSON, write a small Python function, solve a "
        "4x4 Sudoku, "
        "or explain dgtui.",
        ("what can you do", "what are you able to do", "what are you good at", "what can i ask you",
         "how can you help me",
         "what should i ask you", "what do you know", "what can i try"),
    ),
    "size": (
        "I have about four million parameters. The real DiffusionGemma has 26 billion, so please expect little of me.",
        ("how big are you", "how many parameters do you have", "how large is the model", "are you small",
         "what is your size", "how large are you", "how many parameters does this model have"),
    ),
    "why_small": (
        "I ship inside the package, so that dgtui works at once without a download or a GPU. For real answers, "
        "pull the real model.",
        ("why are you so small", "why is there a small model", "why are your answers so simple",
         "why do you know so little",
         "what is the small model for", "why can you not answer everything"),
    ),
    "trained": (
        "I learnt from generated examples only: tales, sorting, JSON, Python, Sudoku and questions about dgtui. "
        "I never read the web.",
        ("what were you trained on", "how were you trained", "where does your knowledge come from",
         "what is your training data",
         "who trained you", "what did you learn from"),
    ),
    "trust": (
        "Not blindly. I am tiny, and a calm colour means that I am sure of a token, not that it is true.",
        ("can i trust you", "are your answers true", "are you always right", "do you make mistakes", "can you be wrong",
         "is what you say true"),
    ),
    "real_model": (
        "Run dgtui model pull to download the real checkpoint, then choose it with --model or with /model in the chat.",
        ("how do i load the real model", "how do i get the real model", "how do i use the big model",
         "how do i download diffusiongemma",
         "how can i get a better model", "how do i switch to the real model", "where do i get the real model"),
    ),
    "gemma": (
        "DiffusionGemma is an open model of Google with 26 billion parameters that writes text by diffusion, "
        "256 tokens at a time.",
        ("what is diffusiongemma", "who made diffusiongemma", "tell me about diffusiongemma", "what is the real model",
         "explain diffusiongemma", "what is diffusion gemma"),
    ),
    "quantize": (
        "dgtui model quantize SRC DST packs a checkpoint into four bits, so that the real model needs about 16 GB.",
        ("how do i quantize a model", "how do i make the model smaller", "can i use four bits", "what does quantize do",
         "how do i pack a model into four bits"),
    ),
    "gpu": (
        "I do not need a GPU: I run on any CPU. The real model does want one, and dgtui doctor says whether "
        "yours will do.",
        ("do i need a gpu", "does it need a gpu", "does dgtui need a gpu", "can it run on a cpu",
         "does this run without a gpu",
         "what hardware do i need", "will it run on my laptop"),
    ),
    "private": (
        "No. Everything runs on this machine, and nothing is downloaded unless you run dgtui model pull.",
        ("does it send data anywhere", "do you send my data anywhere", "is my data private",
         "do my words leave this machine",
         "does dgtui use the internet", "do you need the internet", "does it work offline", "is there any telemetry"),
    ),
    "diffusion": (
        "I start from random tokens and refine the whole canvas again and again, until every token is settled.",
        ("what is text diffusion", "what is diffusion", "how do you work", "how does text diffusion work",
         "how do you write text",
         "explain diffusion", "how does the model work"),
    ),
    "left_to_right": (
        "Most models write one token after the other and never look back. I refine all tokens at once and can "
        "still change any of them.",
        ("how does diffusion differ from left-to-right", "how are you different from other models",
         "what is the difference to a normal language model", "do you write from left to right",
         "why not write from left to right", "what makes diffusion different"),
    ),
    "canvas": (
        "The canvas is the 256 tokens that are refined together. Longer replies go on in the next block, on a "
        "fresh canvas.",
        ("what is a canvas", "what is the canvas", "explain the canvas", "how big is the canvas",
         "how long is the canvas",
         "how many tokens are on the canvas"),
    ),
    "block": (
        "A block is one filled canvas of up to 256 tokens. When it is settled, it becomes context and the next "
        "block starts.",
        ("what is a block", "what does block mean", "explain blocks", "what happens after a block",
         "what is the next block"),
    ),
    "token": (
        "A token is a piece of text, often a word or a part of one. The canvas holds 256 of them.",
        ("what is a token", "what are tokens", "what does token mean", "explain tokens", "is a token a word"),
    ),
    "noise": (
        "At first every place on the canvas holds a random token. Step by step the noise gives way to words "
        "that fit together.",
        ("why does it start with noise", "what is the noise", "why is the text garbled at first",
         "what are the random letters",
         "why do i see noise"),
    ),
    "step": (
        "In a denoising step I look at the whole canvas, accept the tokens I am sure of, and draw all the others anew.",
        ("what is a step", "what is a denoising step", "what happens in a step", "what does a step do",
         "explain the steps"),
    ),
    "entropy": (
        "Entropy says how unsure I am of a token: near zero I am sure, and the higher it is, the more other "
        "tokens would fit.",
        ("what is entropy", "what does entropy mean", "explain entropy", "what does mean entropy say",
         "why do you show entropy"),
    ),
    "colour": (
        "The colour of a token is its entropy: calm when it is settled, bright while it is undecided. Marks "
        "show the same without colour.",
        ("what does the colour mean", "what do the colours mean", "why are the words coloured",
         "what does the color mean",
         "what do the colors mean", "explain the colours"),
    ),
    "marks": (
        "Plain is settled, bold was accepted in this step, dim was renoised, underlined has changed, and a "
        "tinted ground is a pin.",
        ("what does bold mean", "what does dim mean", "why are some words underlined", "what do the marks mean",
         "what does the underline mean", "explain the marks"),
    ),
    "timeline": (
        "The timeline under the canvas has one bar for every step: its height is the mean entropy. Scrub it "
        "with [ and ].",
        ("what is the timeline", "what do the bars mean", "what are the bars under the canvas", "explain the timeline",
         "what does the timeline show"),
    ),
    "meters": (
        "The line below the canvas shows tokens per second, tokens per step, time per step, memory, and why the "
        "run stopped.",
        ("what do the meters show", "what are the numbers below the canvas", "how fast are you",
         "where do i see the speed",
         "what does tok/s mean", "explain the meters"),
    ),
    "pin": (
        "Select the words in the canvas and press p. Pinned tokens never change, however often the rest is "
        "re-diffused.",
        ("how do i pin a word", "how do i pin words", "how do i keep a word", "what is a pin", "what does pinning do",
         "how can i hold a word fixed", "how do i unpin a word", "what does p do"),
    ),
    "rediffuse": (
        "Select a span in the canvas and press r: it is written anew in place, and everything else stays pinned.",
        ("how do i re-diffuse a span", "how do i rewrite a part", "how do i re-diffuse",
         "how do i change only one sentence",
         "what does r do", "how can i redo a selection", "what does re-diffuse mean"),
    ),
    "strength": (
        "Strength says how much of the old text is kept: 100% starts from noise, less keeps a part. Set it with "
        "+ and -.",
        ("what is the strength", "what does strength mean", "how do i set the strength", "how do i change the strength",
         "how do i keep part of the old text"),
    ),
    "select": (
        "Hold Shift and move with the arrows, or press v to set an anchor; then every move selects.",
        ("how do i select text", "how do i select words", "how do i select a span", "how do i mark words",
         "what does v do"),
    ),
    "polish": (
        "Press x in the canvas: the tokens I am least sure of are renoised and may settle again, and the rest stays.",
        ("how do i polish the text", "what does polish do", "what does x do", "how do i improve a draft",
         "how can i polish a draft"),
    ),
    "gap": (
        "Press i at the cursor to open a gap: its length is found by search and it is filled in. Press I to "
        "give the length yourself.",
        ("how do i insert a gap", "how do i open a gap", "how do i insert words",
         "how do i add a sentence in the middle",
         "what does i do", "how do i fill a gap"),
    ),
    "type": (
        "Press t and type at the cursor: your words are pinned, and the rest finds its way around them.",
        ("how do i type my own words", "can i write words myself", "how do i type into the canvas", "what does t do",
         "how do i write on the canvas"),
    ),
    "frame": (
        "Type /frame before a run: write the ending or any other words first, and I have to find the way to them.",
        ("how do i write the ending first", "what does /frame do", "what is a frame", "can i give you the ending",
         "how do i set words before a run"),
    ),
    "alternatives": (
        "Put the cursor on a token and press a: you see what else would fit. Pick one, and it is pinned and the "
        "rest settles anew.",
        ("how do i see alternatives", "what else would fit here", "what does a do", "how do i choose another word",
         "how do i see other words", "how do i swap a word"),
    ),
    "pause": (
        "Press space in the canvas to pause and again to go on. While it is paused, the full stop key does one step.",
        ("how do i pause", "how do i pause a run", "how do i go one step at a time", "how do i slow it down",
         "what does space do",
         "can i hold the run"),
    ),
    "scrub": (
        "Press [ and ] to go through the timeline step by step, and { and } to jump to its ends.",
        ("how do i scrub", "how do i go back to an earlier step", "how do i see earlier steps",
         "how do i scrub the timeline",
         "how do i look at step one", "can i rewind"),
    ),
    "fork": (
        "Scrub to a step and press f: the run goes on from there with a new seed. Both branches are kept, and b "
        "switches them.",
        ("how do i fork", "what is a fork", "how do i fork a run", "what does f do", "how do i make a branch",
         "how do i switch branches"),
    ),
    "undo": (
        "Press u to undo and U to redo in the canvas. In the editor it is Ctrl+Z and Ctrl+Y.",
        ("how do i undo", "how do i redo", "can i undo that", "how do i take that back", "what does u do",
         "how do i undo a change"),
    ),
    "copy": (
        "Press y in the canvas: it copies the selection, or all of the text if nothing is selected.",
        ("how do i copy the text", "how do i copy", "what does y do", "how do i copy the reply",
         "how do i copy a selection"),
    ),
    "stop": (
        "Press Esc: the run stops within one step and the draft is kept. Press Esc again to discard it.",
        ("how do i stop", "how do i stop a run", "how do i stop you", "what does esc do", "how do i cancel",
         "how do i discard a draft"),
    ),
    "quit": (
        "Press Ctrl+Q to quit. Nothing is lost: conversations are saved, and a changed file asks first.",
        ("how do i quit", "how do i exit", "how do i leave dgtui", "how do i close the program",
         "how do i get out of here", "exit",
         "quit", "how do i close this"),
    ),
    "help": (
        "Press F1 or ? for all keys, or Ctrl+P for the command palette. The footer shows what can be done here.",
        ("how do i get help", "help", "where is the help", "which keys are there", "what are the keys",
         "show me the keys",
         "where do i see all keys", "what is the command palette"),
    ),
    "keys": (
        "Every key can be changed in the [keys] table of the config file. dgtui keys prints what is bound.",
        ("how do i change a key", "can i change the keys", "how do i remap keys", "how do i bind another key",
         "where do i set keys"),
    ),
    "config": (
        "It is config.toml in your config folder. Run dgtui config path to see where that is.",
        ("where is the config", "where is the config file", "how do i configure dgtui", "where are the settings",
         "how do i change the settings", "what is the config called"),
    ),
    "themes": (
        "Type /theme in the chat, or list the themes with dgtui themes. Your own are TOML files in the config folder.",
        ("how do i change the theme", "which themes are there", "is there a light theme", "how do i get a dark theme",
         "how do i make my own theme", "can i change the looks", "is there a theme for colour-blind eyes"),
    ),
    "seed": (
        "The same seed with the same prompt and settings gives the same text. Set it with --seed, or with /seed "
        "in the chat.",
        ("what is a seed", "what does the seed do", "how do i set the seed", "how do i get the same text again",
         "how do i change the seed", "why is there a seed"),
    ),
    "steps": (
        "Set the most steps of a block with --steps, or with /steps in the chat. A block stops early once it is "
        "stable and sure.",
        ("how do i set the steps", "how many steps do you take", "how do i change the number of steps",
         "what does --steps do",
         "how many steps are there", "when do you stop"),
    ),
    "temperature": (
        "It falls from t-max to t-min over the steps: hot is bold, cold is careful. Set it with --t-min and --t-max.",
        ("what is the temperature", "what does the temperature do", "how do i set the temperature",
         "how do i change the temperature",
         "what is t-min", "what is t-max"),
    ),
    "edit": (
        "Run dgtui edit FILE. Select a passage and press Ctrl+R to re-diffuse it; the file changes only when "
        "you accept.",
        ("how do i edit a file", "how do i open a file", "can i edit a file", "how do i use the editor",
         "what does dgtui edit do",
         "is there an editor"),
    ),
    "instruct": (
        "In the editor, select a passage, press Ctrl+K and say what you want, such as shorter or fix the grammar.",
        ("how do i shorten a passage", "how do i fix the grammar", "how do i give an instruction",
         "what does ctrl+k do",
         "how do i rewrite a passage in the editor"),
    ),
    "review": (
        "Press Enter to accept a change and Backspace to reject it; A accepts all of them and X rejects all.",
        ("how do i accept a change", "how do i reject a change", "how do i review a proposal",
         "how do i accept all changes",
         "how do i reject all changes"),
    ),
    "save": (
        "Press Ctrl+S in the editor. A save is all or nothing, and a file changed on disk is never overwritten "
        "silently.",
        ("how do i save", "how do i save a file", "what does ctrl+s do", "how do i save my changes", "is saving safe"),
    ),
    "infill": (
        "Use dgtui infill FILE with --span L:C-L:C or --at L:C, or - to read a pipe. The new text goes to stdout.",
        ("how do i infill in a pipe", "how do i use infill", "what does dgtui infill do", "can i use it in a pipe",
         "how do i fill a span from the shell", "how do i infill a file"),
    ),
    "generate": (
        "Run dgtui generate with a prompt, or - to read it from a pipe. The text goes to stdout; --json adds "
        "the numbers.",
        ("how do i use it in a script", "what does dgtui generate do", "how do i generate text without the screen",
         "can i use dgtui from a script", "how do i get json output", "how do i run it headless"),
    ),
    "record": (
        "Add --record FILE to a command, or press w in the canvas. Every step is kept, so the run can be "
        "watched again.",
        ("how do i record a run", "how do i save a run", "what does w do", "what is a recording", "can i record this",
         "how do i make a recording"),
    ),
    "replay": (
        "Run dgtui replay RECORDING and scrub through it. With --export it becomes an SVG, an HTML page or a cast.",
        ("how do i replay a recording", "how do i watch a recording", "what does dgtui replay do",
         "how do i play a run again",
         "how do i export a recording"),
    ),
    "history": (
        "Yes, in a database on this machine. Go on with dgtui chat --continue, or look for an older one with "
        "/sessions.",
        ("are my conversations saved", "where are my conversations", "how do i continue a conversation",
         "is there a history",
         "how do i find an old conversation", "do you keep my conversations"),
    ),
    "images": (
        "The real model can see images: give one with --image FILE or with /image in the chat. I cannot.",
        ("can you see images", "how do i give you an image", "do you understand pictures", "what does /image do",
         "can i show you a picture"),
    ),
    "train": (
        "Run dgtui train DATA.jsonl --out DIR with a prompt and a response on each line. I was trained by the "
        "same code.",
        ("how do i train a model", "can i fine-tune the model", "what does dgtui train do",
         "how do i train on my own data",
         "how do i fine-tune"),
    ),
    "doctor": (
        "Run dgtui doctor: it looks at terminal, GPU, memory, packages and model, and says what works and what to do.",
        ("what does dgtui doctor do", "something does not work", "how do i find out what is wrong",
         "what is dgtui doctor",
         "how do i check my setup"),
    ),
    "licence": (
        "dgtui is free software under the Apache License 2.0; DiffusionGemma is under the same licence.",
        ("what is the licence", "what licence does dgtui have", "what is the license", "is dgtui free software",
         "is it open source",
         "under which licence is dgtui"),
    ),
    "size_of_terminal": (
        "It works at 80x24 and uses more room where there is some. Below 60x16 it says politely that it is too small.",
        ("how big must my terminal be", "what terminal size do i need", "does it work in a small terminal",
         "how large should the window be"),
    ),
    "thanks": (
        "You are welcome. Ask me for a tale, or press Ctrl+Q when you want to go.",
        ("thank you", "thanks", "thank you very much", "thanks a lot", "that was nice", "well done"),
    ),
    "bye": (
        "Goodbye! Press Ctrl+Q to quit; this conversation is kept for next time.",
        ("bye", "goodbye", "see you", "good night", "i have to go", "see you later"),
    ),
}
# fmt: on
