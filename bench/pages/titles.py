"""What docs/results.md calls each benchmark, and what it says of it, in the order of the page."""

__all__ = ["EXPLANATIONS", "TITLES"]

TITLES = {
    "digits": "Real handwritten digits, glyph-pretrained conv4",
    "time_to_accuracy": "Time to accuracy: when the others get as far as forward",
    "time_to_error": "Time to error: trajectories of predators and prey",
    "vision": "Public images, inside a domain and across domains",
    "intents": "Intents: BANKING77 and CLINC150, all classes at once",
    "relations": "Relations in medical abstracts: FewRel 2.0",
    "fields": "Tables, forecasting, behaviour cloning",
    "volatility": "Volatility, day after day",
    "reviews": "Reviews of goods that are new: the twelve tasks of ARSC",
    "many_tasks": "Many tasks at once",
    "scaling": "Many processes",
    "edge": "Small devices",
    "distil": "Small devices: a smaller network",
    "trust": "How far a model may be believed",
    "privacy": "Little of any single example",
    "corruptions": "Examples that are worse than those that were learned from",
    "attacks": "Who means harm",
    "fairness": "As well by all groups",
    "drift": "Noticing that what is asked has changed",
    "mixture": "Tasks of several kinds, and a mixture of subspaces",
    "meta_training": "Meta-training beside learn2learn and higher",
    "episodes": "Drawing episodes",
    "heads": "Heads on frozen features, beside easyfsl",
    "starts": "A start for everybody, on domains that it has not seen",
    "one_shot": "One shot: views of the only example of a class",
    "conditions": "The same classes under other conditions",
    "conditions.networks": "The same classes under other conditions, other networks",
    "physics": "Unknown physics: trajectories of new environments",
    "control": "Control: a pendulum after a hundred transitions",
    "selection": "Choice of hyper-parameters on validation tasks",
}
EXPLANATIONS = {
    "digits": """\
5-way tasks of scikit-learn's digits, which neither pretraining nor meta-training has seen; the tasks of all
seeds together. Differences are paired by task and come in points of accuracy. `compare/speedup_vs_retrain`
is the time in which full retraining (random initialisation, all training-pool images of the task's classes)
first reaches the method's accuracy on the same task, divided by the method's own time; other speed-ups are
ratios of whole times. They are medians over tasks, with a 95 % interval. All times come from one interleaved
run per seed and shots. The tasks share 719 query images, which is why ± is wider than 600 tasks would make it
([statistics](statistics.md)).""",
    "time_to_accuracy": """\
Every method on every task, five seeds together. `time/to_target_seconds` is when a method was first as
accurate as `forward` on the same task's queries, median over tasks; a method that can be looked at on its way
is judged at every look, which nobody could do without the labels of the queries, so this favours the others.
`time/to_target_failures` counts the tasks on which it never got there; its median is then a lower bound. A
speed-up against retraining counts the time to that accuracy, the others the whole of their time. Break-even
is the number of tasks after which meta-training has paid off against retraining each time.""",
    "time_to_error": """\
One trajectory of an environment that is new, and the error on sixteen others of it, each method as
`experiment=quickstart_physics` has it, but for retraining, which goes on for far longer.
Environments are those of split `wide`. `time/to_target_seconds` is when a method's error was first as small
as that of `forward`.""",
    "vision": """\
Each row is a start, a test and a method. Starts: `omniglot` and `cifar_fs` are conv4 networks trained on the
training classes of that data set; `conv4` is the one that was trained on glyphs; `signs` and `elsewhere` are
MobileNetV2 with weights of ImageNet at 96 px, meta-trained on other classes of traffic signs, and on
characters, photographs and glyphs but no signs. `pretrained` rows use nothing that was meta-learned; `start`
is the meta-learned φ₀ with a logistic head, `forward` moves from there by forward tangents, `backprop` by
backpropagation in the same space. Settings are chosen on validation classes of the start's own training
domains. With one shot nothing is left when an example is left out: `forward` then stays at φ₀. Splits of
Omniglot are disjoint in alphabets, which the usual split of the literature is not. Differences are paired by
task, in points.""",
    "intents": """\
The official 5-shot and 10-shot training sets and the official test sets, all intents at once, encoded by
all-MiniLM-L6-v2. Meta-training saw intents of the other data set only, without the topics they share.
Intervals are over test queries; there is one published training set of each size. `start` rows take the share
of the meta-learned start that leave-one-out on the support set chooses, `forward` and `backprop` move from
there; `other intents` rows take the whole of it. Seconds are of the processor.""",
    "relations": """\
5-way and 10-way tasks of the ten test relations of FewRel 2.0 (sentences of PubMed), encoded by
all-MiniLM-L6-v2; the two marked things and the sentence are averaged each. Meta-training and every choice saw
relations of Wikipedia only. `frozen` rows fit a head on the pretrained features, `whole start` rows on those
at the meta-learned φ₀; `start`, `forward` and `backprop` begin at the share of φ₀ (none, half, all) that
leave-one-out on the support set likes best. Differences are paired by task, in points. Seconds are of the
processor.""",
    "fields": """\
Small networks, meta-trained on training tasks of each field, beside the best cheap baseline. Settings are
chosen on validation tasks; test tasks are measured once. Differences are paired by task.""",
    "volatility": """\
Assets that are new, for a year of trading days after their first ten windows. Every day each method forecasts
the logarithm of the volatility of the next week from what is known by then. `learning every day` goes on by
`partial_fit`, one window a day; `forward` in differences is that. GARCH is fitted once a week, ridge on the
features of Corsi (2009) every day; `all assets` is of training assets. Forecasts that are of something else,
those of GARCH and last week's volatility, are read through a line fitted to validation assets. Settings are
chosen there too. Errors are squared, means over assets; differences are paired by asset.""",
    "episodes": """\
Tasks drawn per second, beside learn2learn's `TaskDataset` on the same arrays, in one interleaved run.""",
    "heads": """\
Five-way tasks on features of EfficientNet-Lite0 (ImageNet, 128 pixels), the same for all; fifteen queries of
each class, equally many, which transductive methods take for granted. Settings are the best on validation
tasks of Omniglot, CIFAR-FS and GTSRB together. `best` rows hold the method of ours that was best there
against that of easyfsl, inductive and transductive. `photographs`: features were centred on the mean of
photographs of training classes of CIFAR-FS. Of easyfsl, methods that are networks to be trained on episodes
are left out (FEAT, matching and relation networks). Differences are paired by task. Times are of adapting and
predicting, features at hand.""",
    "starts": """\
Every start was learned without the domain that it is tested on and without what is like it: characters by
hand and of fonts count as one for digits, too. `free` starts know only what anybody may use for anything,
`all` starts photographs and road signs as well. A logistic head on features of EfficientNet-Lite0 at 128
pixels, adapted not at all beyond that. `chosen` takes of none, half and all of the way what held-out examples
of the task speak for, and half of it with one example of a class. Differences to the network as it is are
paired by task, in points.""",
    "reviews": """\
MiniLM as it is, and where seventeen other kinds of goods taught it to start; from there, forward and backprop
steps on the ten labelled reviews, and a head of other goods' reviews that sees none of the task's (`head of
other goods`), or whose directions the ten reviews move along. Heads and settings were chosen on two further
kinds of goods. Test parts are as published, most of them praise: a method that knows no better is below the
most frequent class. Intervals are over the four kinds of goods.""",
    "meta_training": """\
MAML (second order) of the same network on the same tasks, with the same steps and rates; an outer step is 25
tasks, or 100: ours spends its time on the program of a step, whatever number of tasks it holds. Times are of
the processor, one thread, outer step by outer step in turns. `eval/mse` is the error on queries of others
after as many tasks each, and ours minus theirs is paired by task.""",
    "scaling": """\
Outer steps of meta-training by one process and by two (torchrun, gloo, one thread each), in turns, on one
machine; times of more are simulated, see [scaling](scaling.md). `cost/bytes`: what a process sends for one
step of one task of 25 examples. `clients`: vehicles on slippery roads, squared errors on moments of others
like them.""",
    "edge": """\
The same tasks by torch with exact tangents and by ONNX Runtime with central differences, whose width was
chosen on validation tasks, in floating point and with convolutions or matrix products in eight bits.
Differences are paired by task, in points. `cost/memory`: the process's peak of loading and adapting by that
of loading and one inference of the support set. `CMA-ES`: evolution (Niu et al. 2024) on the graph
in eight bits, its width chosen on the same tasks. `ONNX of others`: a file from a package, of the same
network. Other conditions: photographs under kinds of corruption that nothing was learned from, with
a classifier that stays.""",
    "mixture": """\
Vehicles and sinusoids in one distribution, padded to one shape, and it is not said which a task is; seeds
together, each with an adapter of its own. `told the family` are two adapters, each learned on one family
alone in as many steps. `by evidence` also tries each subspace alone. Conditions: classes that stay, two
labels of each, under kinds of corruption; one training each.""",
    "trust": """\
Everything by its defaults. `tempered`: with the temperature that the support examples ask for, each held out.
`trust/refused`: the share that `predict(reject=0.05)` masks; of `queries` it should be 5 % at most. Wrong
labels: a fifth of each support set, changed at random.""",
    "corruptions": """\
Support sets are clean and queries are worse: all kinds and the strengths of CIFAR-C, slips of the keyboard,
lost words, capitals, missing cells and noise. `severity 3` is the mean over kinds. `trust/mce` is the mean
over kinds of the errors of a method over those of the head.""",
    "attacks": """\
`queries`: each is changed within so many steps of 255, by gradients of two losses from two starts. `labels`
and `examples`: so many of the support set are wrong, or noise. `one example` more: of fifty the one that
costs most. `membership`: how well members of a support set are told from others of their classes.""",
    "fairness": """\
Loans: each predicted without its fifth. `trust/gap` is how much worse the worst group is served than all
others, with its interval over all groups behind it. Relations and films: over draws of the support set.""",
    "drift": """\
Streams of 100 examples of which the second half is of another kind; the chance of a false alarm that was
asked for is 1 %. `nothing`: streams without a change.""",
    "privacy": """\
One step of Gauss–Newton from the sums of one driver's examples, clipped and with the noise that (ε, δ) asks
for, δ = 1e-5. The clip is chosen on validation vehicles.""",
    "distil": """\
The teacher is adapted to the labelled examples of a task. `labelled examples alone`: the student learned from
the same ones, by a head or by fine-tuning; `taught` students also learned what the teacher says of other
images of the same classes, none of which are queries or of the pool that queries are from (one of physical
signs, or of scans). `eight bits` is the teacher adapted and run as in the section above. Settings were chosen
on validation tasks: of other signs, and of characters by hand for digits. Differences are paired by task, in
points. `cost/size` is of the exported file, `time/inference` of one example by ONNX Runtime, one thread.""",
    "many_tasks": """\
`fit_many` and `predict_many` beside one call a task, in processor time of one thread. `stacked` adapts all
tasks as one program whatever the size of the network, which `fit_many` does for small ones: a convolutional
network spends its time on numbers, and a stack of tasks only moves them out of the cache.""",
    "one_shot": """\
Tasks with one example of a class. `views` rows have four slightly changed copies of it besides, which teach
the head, or head and z; `trained at one shot` rows use an adapter whose meta-training had the same, the
others one of five-shot tasks. `trained` rows differ from `head` in their starting point too. What was chosen
on validation tasks is marked; test tasks were measured once. Differences are paired by task.""",
    "conditions": """\
CIFAR-100's 20 coarse classes under one or two of CIFAR-C's corruptions, the same for 40 support photographs
(two of a class, unless said otherwise) and the queries of a task. `head` rows fit a head to the support;
`classifier` rows and those without labels keep one of a thousand clean training photographs. `forward` and
`ours` move along meta-learned directions, all others in all of FiLM; `norms` have the statistics of the
support, or, in networks with layer or group norms, channel means as on clean photographs. FOA is the learning
rule alone, on FiLM in place of a prompt. Settings are chosen on validation kinds, which no meta-training saw;
test tasks were measured once. Differences are paired by task, in points. `worst kind` is the mean over the
tasks that a kind is part of, of the kind for which it is least.""",
    "conditions.networks": """\
The same tasks and methods with networks that were trained on the same clean photographs in minutes, and are
weaker for it; fewer tasks.""",
    "physics": """\
Mean squared error of whole trajectories, from one of an environment that is new (pendulum: five). `forward`
takes Gauss–Newton steps along the directions that the auto-decoder learned, `continuation` ten of them on
ever more of the trajectory; `descent on z` is Adam by backpropagation along the same directions, as CoDA
adapts its context; `all weights` fine-tunes the field from the same start; `maml` and `cavia` were
meta-trained for themselves, for about as long; `the equations` are known to the last method, which fits their
constants. Settings are chosen on validation environments. `compare/time_of_this` is the time of a method by
that of ten steps of ours; `compare/time_to_the_same_error` that of descent until it explains the given
trajectories as well as the forward method that validation environments chose. Goals for the error are what
CoDA reports (Kirchmeyer et al. 2022, table 1), which counts the given beginning of a trajectory as well.""",
    "control": """\
A cross-entropy planner swings a pendulum up for ten seconds. Returns are those of Pendulum-v1 of gymnasium, 0
at best; differences are paired by pendulum.""",
    "selection": """\
Tasks of glyph classes that neither pretraining nor meta-training uses, drawn as in meta-training. Every
method has at most nine settings on the same tasks; chosen is the cheapest within a tenth of a point of the
most accurate. Retraining is chosen by its time to 98 % on images held out of the digits' training pool.
Forward with `steps=0` is the meta-learned starting point alone, without adapting the backbone.""",
}
