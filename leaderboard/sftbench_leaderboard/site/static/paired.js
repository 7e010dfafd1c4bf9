// The paired contrast of two models on the same facts: what sftbench/analysis/noninferiority.py says.
// One run on each side. Names are those of that file, of design.py and of intervals.py.
"use strict";

const paired = (() => {
  const FARTHEST = 45; // multipliers are searched up to sinh(44)
  const LARGE = 1e3; // stands for an infinite score
  const HALVINGS = 60; // of the bracket of a multiplier: as fine as a double can tell

  const sum = (values) => values.reduce((total, one) => total + one, 0);
  const mean = (values) => sum(values) / values.length;
  const clip = (value) => Math.min(1, Math.max(0, value));

  // Adds values up in their places, as numpy.bincount.
  function added(places, values, count) {
    const totals = new Array(count).fill(0);
    values.forEach((value, at) => { totals[places[at]] += value; });
    return totals;
  }

  const counted = (places, count) => added(places, Array.from(places, () => 1), count);

  // ---- The design of facts: levels that are averaged, relations as strata, answers as clusters.

  function checked({ level, cluster, stratum }) {
    if (!level.length) throw new Error("a design needs facts");
    if (level.length !== cluster.length) throw new Error("level and cluster must be of the same facts");
    const size = counted(cluster, stratum.length);
    if (size.length !== stratum.length || !size.every((one) => one > 0)) {
      throw new Error("each cluster needs facts and a stratum");
    }
    return size;
  }

  // Strata with a single cluster each show together how clusters vary.
  function strataOf(stratum) {
    const alone = new Set(stratum).size === stratum.length;
    return Array.from(stratum, (one) => (alone ? 0 : one));
  }

  // facts: level and cluster (0, 1, ...) of each fact, stratum (0, 1, ...) of each cluster.
  function design(facts) {
    const clusterSizes = checked(facts);
    const levels = [...new Set(facts.level)].sort((a, b) => a - b);
    const place = new Map(levels.map((one, at) => [one, at]));
    const level = Array.from(facts.level, (one) => place.get(one));
    const cluster = Array.from(facts.cluster);
    const sizes = counted(level, levels.length);
    const weights = level.map((at) => 1 / (levels.length * sizes[at]));
    const squares = added(cluster, weights.map((one) => one ** 2), clusterSizes.length);
    const sums = added(cluster, weights, clusterSizes.length).map((one) => one ** 2);
    const stratum = strataOf(facts.stratum);
    const inStratum = counted(stratum, 1 + stratum.reduce((most, one) => Math.max(most, one), 0));
    return {
      n: level.length, levels, level, sizes, weights, cluster, clusterSizes, stratum, inStratum, squares, sums,
      most: sum(sums) / sum(squares), // the design effect if facts of a cluster hung together completely
    };
  }

  const means = (of, values) => added(of.level, values, of.levels.length).map((one, at) => one / of.sizes[at]);

  function apartFrom(of, values) {
    const middle = means(of, values);
    return values.map((value, at) => value - middle[of.level[at]]);
  }

  // The variance of a mean over levels, given that of one fact of each level.
  const overLevels = (variances, sizes) => sum(variances.map((one, at) => one / sizes[at])) / sizes.length ** 2;

  // The variance if all facts were independent.
  const aloneOf = (of, values) => overLevels(means(of, apartFrom(of, values).map((one) => one ** 2)), of.sizes);

  // Taylor linearisation: contributions add up within a cluster, clusters vary within their stratum.
  function spread(of, values) {
    const alone = aloneOf(of, values);
    if (of.stratum.length === 1) return { variance: alone * of.most, deff: of.most };
    const contributions = apartFrom(of, values).map((one, at) => of.weights[at] * one);
    const variance = varianceOf(of, added(of.cluster, contributions, of.stratum.length));
    return { variance, deff: alone > 0 ? Math.max(1, variance / alone) : 1 };
  }

  // A stratum with one cluster is held against 0, the mean of all contributions.
  function varianceOf({ stratum, inStratum }, totals) {
    const inAll = added(stratum, totals, inStratum.length);
    return sum(totals.map((total, at) => {
      const count = inStratum[stratum[at]];
      return count === 1 ? total ** 2 : (count / (count - 1)) * (total - inAll[stratum[at]] / count) ** 2;
    }));
  }

  // Satterthwaite, where facts of a cluster correlate as much as the design effect says.
  function dfOf(of, deff) {
    const shared = of.most > 1 ? Math.min(1, (deff - 1) / (of.most - 1)) : 0;
    const expected = of.squares.map((one, at) => (1 - shared) * one + shared * of.sums[at]);
    const total = added(of.stratum, expected, of.inStratum.length);
    const squared = added(of.stratum, expected.map((one) => one ** 2), of.inStratum.length);
    const varying = of.inStratum.map((m, at) => (
      m > 1 ? (m / (m - 1)) ** 2 * ((1 - 2 / m) * squared[at] + (total[at] / m) ** 2) : squared[at]
    ));
    return Math.max(1, sum(total) ** 2 / sum(varying));
  }

  // How much others of its cluster changed likewise, of each cluster of several facts that changed.
  function sharesOf(of, side) {
    const usual = mean(side);
    const changed = added(of.cluster, side, of.stratum.length);
    const seen = [...changed.keys()].filter((at) => changed[at] > 0 && of.clusterSizes[at] > 1);
    return seen.map((at) => {
      const others = (changed[at] - 1) / (of.clusterSizes[at] - 1);
      return usual < 1 ? (others - usual) / (1 - usual) : 1;
    });
  }

  // The design effect that changes of so few facts do not rule out: one cluster more changed as a whole.
  function leastDeff(of, gained, lost) {
    const shares = [1, ...sharesOf(of, gained), ...sharesOf(of, lost)];
    return 1 + (of.most - 1) * clip(mean(shares));
  }

  // As many independent facts of each level would vary as much. Nothing is gained from strata.
  function effectiveOf(of, { gained, lost }, variance, together) {
    const once = overLevels(gained.map((up, at) => up + lost[at] - (up - lost[at]) ** 2), of.sizes);
    if (once <= 0) return of.sizes.map((one) => one / together);
    // With one run on each side, `once` is what the variance of independent facts is.
    const times = once / Math.max(variance, once * together);
    return of.sizes.map((one) => one * times);
  }

  // ---- Student's t.

  // Gamma(a + 1/2) / Gamma(a): the asymptotic series, reached by recurrence.
  function gammaRatio(a) {
    let factor = 1;
    for (; a < 40; a += 1) factor *= a / (a + 0.5);
    const terms = [1, -1 / 8, 1 / 128, 5 / 1024, -21 / 32768, -399 / 262144];
    return factor * Math.sqrt(a) * terms.reduceRight((total, term) => total / a + term, 0);
  }

  // The continued fraction of the incomplete beta function (Lentz), for x < (a + 1) / (a + b + 2).
  function betaFraction(x, a, b) {
    const nonzero = (value) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
    let c = 1;
    let d = 1 / nonzero(1 - ((a + b) * x) / (a + 1));
    let found = d;
    for (let m = 1; m < 1e5; m += 1) {
      const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
      const before = found;
      for (const part of [even, odd]) {
        d = 1 / nonzero(1 + part * d);
        c = nonzero(1 + part / c);
        found *= c * d;
      }
      if (Math.abs(found - before) <= 1e-16 * Math.abs(found)) break;
    }
    return found;
  }

  // The t > 0 that a t variable is above with probability alpha, 0 < alpha <= 1/2.
  function upperQuantile(df, alpha) {
    if (!(alpha > 0 && alpha <= 0.5)) throw new Error(`alpha is ${alpha}, not above 0 and at most 0.5`);
    if (alpha === 0.5) return 0;
    const scale = gammaRatio(df / 2) / Math.sqrt(Math.PI * df);
    const density = (t) => scale * Math.exp((-(df + 1) / 2) * Math.log1p((t * t) / df));
    // How much likelier than alpha it is to be above t. What is small is computed, not what it leaves.
    const excess = (t) => {
      const part = (t * t) / (df + t * t);
      if (t * t * (df + 2) < 3 * df) return 0.5 - alpha - density(t) * t * betaFraction(part, 0.5, df / 2);
      return ((density(t) * t) / df) * betaFraction(df / (df + t * t), df / 2, 0.5) - alpha;
    };
    let high = 1;
    while (excess(high) > 0) high *= 2;
    return newton(excess, density, high > 1 ? high / 2 : 0, high);
  }

  // The root of a falling function, its slope `fall` downwards: Newton's steps, halving where they leave the bracket.
  function newton(excess, fall, low, high) {
    let t = (low + high) / 2;
    for (let round = 0; round < 200; round += 1) {
      const over = excess(t);
      if (over > 0) low = t;
      else high = t;
      const step = t + over / fall(t);
      const next = step > low && step < high ? step : (low + high) / 2;
      if (Math.abs(next - t) <= 1e-15 * next) return next;
      t = next;
    }
    return t;
  }

  // ---- The score interval of a mean over levels of paired differences (Tango 1998).

  // The most likely probabilities of a gain and a loss of one level under a Lagrange multiplier.
  function pulledChange(pull, up, down, m) {
    if (pull === 0) return [up / m, down / m];
    const rest = Math.max(0, m - up - down);
    const linear = pull * (up - down) - pull * pull;
    // Three real roots: Viete's form of the largest.
    const third = Math.max(0, (m * m) / 9 - linear / 3);
    const half = m ** 3 / 27 - (m * linear) / 6 - (rest * pull * pull) / 2;
    const cosine = third > 0 ? Math.min(1, Math.max(-1, half / third ** 1.5)) : 1;
    const largest = m / 3 + 2 * Math.sqrt(third) * Math.cos(Math.acos(cosine) / 3);
    const same = rest > 0 ? rest / largest : 0;
    if (pull > 0) {
      const more = clip(up / (largest + pull));
      return [more, clip(1 - more - same)];
    }
    const less = clip(down / (largest - pull));
    return [clip(1 - less - same), less];
  }

  // One bound, from effective numbers of facts gained, lost and in all, of each level.
  function meanDifferenceBound(gained, lost, m, q, upper) {
    const [sign, edge] = upper ? [-1, 1] : [1, -1];
    if ((upper ? gained : lost).every((one, at) => one >= m[at])) return edge;
    const at = (pull) => {
      const pulled = m.map((size, place) => pulledChange(pull, gained[place], lost[place], size));
      const variances = pulled.map(([more, less]) => Math.max(0, more + less - (more - less) ** 2));
      return [mean(pulled.map(([more, less]) => more - less)), overLevels(variances, m)];
    };
    return scoreBound(mean(m.map((size, place) => (gained[place] - lost[place]) / size)), at, q, sign, edge);
  }

  // The figure that is q standard errors below (sign 1) or above (-1) what was observed.
  function scoreBound(observed, at, q, sign, edge) {
    const beyond = (step) => {
      const [figure, variance] = at(Math.sinh(sign * step));
      const distance = Math.abs(observed - figure);
      if (variance <= 0) return distance > 0 ? LARGE : -q;
      return Math.min(distance / Math.sqrt(variance) - q, LARGE);
    };
    let far = 1;
    while (far < FARTHEST && beyond(far) <= 0) far += 1;
    return far < FARTHEST ? at(Math.sinh(sign * rootOf(beyond, 0, far)))[0] : edge;
  }

  // The root of a rising function.
  function rootOf(beyond, low, high) {
    for (let round = 0; round < HALVINGS; round += 1) {
      const middle = (low + high) / 2;
      if (beyond(middle) > 0) high = middle;
      else low = middle;
    }
    return (low + high) / 2;
  }

  // ---- What the page asks for.

  // before, after: 1 or 0 of each fact. Gained, lost and kept are numbers of facts.
  function contrast(of, before, after) {
    if (before.length !== of.n || after.length !== of.n) throw new Error("answers must be of the design's facts");
    const change = Array.from(after, (one, at) => one - before[at]);
    const up = change.map((one) => (one > 0 ? 1 : 0));
    const down = change.map((one) => (one < 0 ? 1 : 0));
    const levels = { gained: means(of, up), lost: means(of, down) };
    const together = leastDeff(of, up, down);
    const { variance, deff } = spread(of, change);
    const effective = effectiveOf(of, levels, variance, together);
    const df = dfOf(of, Math.max(deff, together));
    const [gained, lost] = [levels.gained, levels.lost].map((side) => side.map((one, at) => one * effective[at]));
    return {
      value: mean(means(of, change)),
      gained: sum(up),
      lost: sum(down),
      kept: sum(Array.from(after, (one, at) => one * before[at])),
      // Each of which the true difference is beyond with probability alpha, for these runs on further facts.
      bounds(alpha) {
        const q = upperQuantile(df, alpha);
        const [low, high] = [false, true].map((upper) => meanDifferenceBound(gained, lost, effective, q, upper));
        return { low, high };
      },
    };
  }

  // n values of 0 or 1 from the base64 of numpy.packbits: the first is the highest bit.
  function bits(base64, n) {
    const packed = atob(base64);
    if (packed.length !== Math.ceil(n / 8)) throw new Error(`${packed.length} bytes do not hold ${n} bits`);
    return Uint8Array.from({ length: n }, (_, at) => (packed.charCodeAt(at >> 3) >> (7 - (at & 7))) & 1);
  }

  return { design, contrast, bits };
})();

if (typeof module !== "undefined") module.exports = paired;
