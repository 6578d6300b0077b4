"""Does CoWorld beat an offline DreamerV2? One pair of each kind of gap."""

from experiments.studies.planar import COWORLD, DREAMER, FINETUNE, OFFLINE_DV2, offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="Transfer on the planar suite",
    question=(
        "With the same offline data, does CoWorld reach a higher return in the target than an "
        "offline DreamerV2 without couplings? One pair of each kind of gap: dynamics "
        "(reach_downhill), task (arm), look (reach_desk). Fine-tuning a source agent and three "
        "offline methods stand beside them."
    ),
    negative=(
        "the interval of the probability of improvement of CoWorld over dreamer includes 0.5 or "
        "lies below it."
    ),
    arms=(
        Arm("CoWorld", "coworld", COWORLD),
        Arm("dreamer", "dreamer", DREAMER),
        Arm("finetune", "finetune", FINETUNE),
        Arm("offline_dv2", "offline_dv2", OFFLINE_DV2, seeds=5, minutes=9.0),
        Arm("drq_bc", "drq_bc", seeds=5, minutes=13.0),
        Arm("bc", "bc", seeds=5, minutes=13.0),
    ),
    pairs=tuple(offline_pair(name) for name in ("reach_downhill", "arm", "reach_desk")),
    seeds=20,
    size="planar",
    minutes=4.0,
    hours=12.0,
    baseline="dreamer",
    found=(
        "What was found with 20 seeds: a negative result. Over the three pairs, CoWorld's mean "
        "score lies 0.11 [0.03, 0.18] below that of dreamer. The loss comes from reach_desk. On "
        "reach_downhill and arm CoWorld's mean return is higher, but both intervals include 0. "
        "The probability of improvement over all pairs is 0.51 because the pairs differ. "
        "Fine-tuning is far better on reach_downhill, where the scene and the task are those of "
        "the source, a little better on arm, and worse on reach_desk.",
        "A hypothesis, which planar_ablation and planar_alpha have tested: coupling C does the "
        "harm. It lowers values that lie above the source's, with the strength alpha = 2 in units "
        "of reward, and the rewards of reach_desk are a tenth of its source's. With couplings the "
        "values v_T are lower on all three pairs: dreamer overestimates by 3.5 on arm and CoWorld "
        "does not, but on reach_downhill CoWorld underestimates by 1.8. Neither study supports it. "
        "planar_ablation finds harm in coupling A on reach_desk, and none in C that 20 seeds would "
        "show. In planar_alpha a weaker C does not close the gap to dreamer there, and lowers the "
        "return on reach_downhill. At the end of the runs on reach_desk, v_T lies above v_S in few "
        "states (3 %).",
        "Limits: the data end where the mean return of ten successive training episodes reaches "
        "a third of 0.9 times the reference. On arm and reach_desk random play reaches that "
        "(27.7 and 2.93): their datasets are 10 and 13 episodes of random play, since the agent "
        "that collects learns only after 20 of them. Only reach_downhill has data of a learning "
        "agent (49 episodes, the first 20 random). CoWorld, dreamer and finetune learn from one "
        "dataset on each pair: the intervals are those of training, not of the data. On arm no "
        "method gets far. The runs are short. Their settings and the negative result were fixed "
        "before the first of them; that the question does not compare CoWorld with fine-tuning "
        "was decided when nine runs were finished, and the budget was set later.",
    ),
)
