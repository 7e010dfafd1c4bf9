# Prints what R's survey package says of facts.csv: means over levels and their standard errors.
suppressPackageStartupMessages(library(survey))
options(survey.lonely.psu = "adjust")

folder <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
facts <- read.csv(file.path(folder, "facts.csv"), stringsAsFactors = TRUE)
facts$change <- facts$after - facts$before
lonely <- "currency" # the relation whose facts all share one answer

figure <- function(rows, column, by_level) {
  design <- svydesign(
    ids = ~answer, strata = ~relation, weights = ~1, data = droplevels(rows), nest = TRUE
  )
  formula <- as.formula(paste0("~", column))
  mean <- if (by_level) {
    levels <- svyby(formula, ~level, design, svymean, covmat = TRUE)
    svycontrast(levels, list(mean = rep(1 / nrow(levels), nrow(levels))))
  } else {
    svymean(formula, design)
  }
  sprintf('{"value": %.17g, "se": %.17g}', coef(mean)[[1]], SE(mean)[[1]])
}

parts <- c()
for (which in c("all", "several")) {
  rows <- if (which == "all") facts else facts[facts$relation != lonely, ]
  for (column in c("right", "change")) {
    for (by_level in c(TRUE, FALSE)) {
      name <- paste(which, column, if (by_level) "levels" else "facts")
      parts <- c(parts, sprintf('  "%s": %s', name, figure(rows, column, by_level)))
    }
  }
}
version <- sprintf('  "survey": "%s"', packageVersion("survey"))
cat("{\n", paste(c(parts, version), collapse = ",\n"), "\n}\n", sep = "")
